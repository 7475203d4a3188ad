//! Texts that do not fit into one call: read, counted locally, and counted by a server, piece by piece.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use farcall::CallError;
use farcall::protocol::{Code, NoApplicationError};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::count::{Counts, LocalCount, merge};
use crate::input::{Reason, open};
use crate::services::{MAX_WORD, TextClient};

/// The size of a piece that every server accepts, in bytes. Less if the frames of the servers are small.
const PIECE_BYTES: usize = 32 * 1024;
/// The pieces that are read ahead of the server.
const READ_AHEAD: usize = 4;
/// The number of times that a text is sent whose server goes away.
const MAX_ATTEMPTS: usize = 10;

/// The pieces of a text file.
#[derive(Debug)]
pub(crate) struct Pieces {
    file: File,
    size: usize,
    /// The beginning of a character that the last piece did not have whole.
    rest: Vec<u8>,
}

impl Pieces {
    /// Opens a file. Its pieces fit `max_piece` bytes each.
    pub(crate) fn open(path: &Path, max_piece: usize) -> Result<Self, Reason> {
        let file = open(path).map_err(|error| Reason::Unreadable(error.to_string()))?;
        // A character has up to 4 bytes.
        Ok(Self { file, size: max_piece.clamp(4, PIECE_BYTES), rest: Vec::new() })
    }

    fn read(&mut self) -> Result<Option<String>, Reason> {
        let mut bytes = std::mem::take(&mut self.rest);
        let more = (self.size - bytes.len()) as u64;
        let read = (&self.file).take(more).read_to_end(&mut bytes);
        let read = read.map_err(|error| Reason::Unreadable(error.to_string()))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let complete = match std::str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            // The last character is incomplete, and more bytes may come.
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            Err(_) => return Err(Reason::Binary),
        };
        self.rest = bytes.split_off(complete);
        match String::from_utf8(bytes) {
            Ok(piece) if !piece.contains('\0') => Ok(Some(piece)),
            _ => Err(Reason::Binary),
        }
    }
}

impl Iterator for Pieces {
    type Item = Result<String, Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Counts the words of a file locally. Returns its length in bytes and the counts.
///
/// # Errors
///
/// The reason to skip it.
pub(crate) fn count_file(path: &Path, max_piece: usize) -> Result<(u64, Counts), Reason> {
    let (mut bytes, mut count) = (0, LocalCount::default());
    for piece in Pieces::open(path, max_piece)? {
        let piece = piece?;
        bytes += piece.len() as u64;
        count.add(&piece);
        if count.word_bytes() > MAX_WORD {
            return Err(Reason::LongWord { limit: MAX_WORD });
        }
    }
    Ok((bytes, count.finish()))
}

/// Has a server count the words of a file. If the server goes away, another one counts it from its beginning.
pub(crate) async fn count_remotely(
    client: &TextClient,
    path: &Path,
    max_piece: usize,
) -> anyhow::Result<Counts> {
    for _ in 1..MAX_ATTEMPTS {
        match attempt(client, path, max_piece).await {
            Err(error) if is_interrupted(&error) => {}
            outcome => return outcome,
        }
    }
    attempt(client, path, max_piece).await
}

/// Returns `true` if the server has gone away. Counting has no effect, so it may be repeated.
fn is_interrupted(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<CallError<NoApplicationError>>()
        .is_some_and(|error| error.code() == Code::Unavailable)
}

async fn attempt(client: &TextClient, path: &Path, max_piece: usize) -> anyhow::Result<Counts> {
    let (mut pieces, mut counts) = client.count_pieces().await?.split();
    let mut file = read_ahead(path.to_owned(), max_piece);
    let sending = async {
        let mut sent = 0_u64;
        while let Some(piece) = file.recv().await {
            let piece = match piece {
                Ok(piece) => piece,
                // Dropped without its end, the half cancels the call.
                Err(reason) => bail!("{reason}"),
            };
            sent += piece.len() as u64;
            if !pieces.send(piece).await? {
                break;
            }
        }
        pieces.end();
        anyhow::Ok(sent)
    };
    let counting = async {
        let mut total = Counts::new();
        while let Some(counted) = counts.next().await {
            merge(&mut total, &counted?, 1);
        }
        anyhow::Ok((total, counts.finish().await?))
    };
    let (sent, counted) = tokio::join!(sending, counting);
    // An error of the call is seen by both; one of the file by the first alone.
    let sent = sent?;
    let (total, counted) = counted?;
    ensure!(counted == sent, "{sent} bytes were sent, and {counted} were counted");
    Ok(total)
}

/// Reads a file on another thread, some pieces ahead.
fn read_ahead(path: PathBuf, max_piece: usize) -> mpsc::Receiver<Result<String, Reason>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    spawn_blocking(move || match Pieces::open(&path, max_piece) {
        Ok(pieces) => {
            for piece in pieces {
                let failed = piece.is_err();
                if sender.blocking_send(piece).is_err() || failed {
                    return;
                }
            }
        }
        // The receiver may be gone.
        Err(reason) => drop(sender.blocking_send(Err(reason))),
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_bytes(bytes: &[u8], max_piece: usize) -> Result<Vec<String>, Reason> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        Pieces::open(&path, max_piece)?.collect()
    }

    #[test]
    fn pieces_end_between_characters() {
        let text = "a\u{fc}\u{4e16}\u{1f600}b";
        for size in 4..12 {
            let pieces = read_bytes(text.as_bytes(), size).unwrap();
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= size), "{pieces:?}");
        }
        assert!(read_bytes(b"", 4).unwrap().is_empty());
    }

    #[test]
    fn invalid_utf8_in_any_piece_is_binary() {
        for bytes in [&b"aaaaaaaa\xff"[..], b"aaaaaaa\xc3", b"aaaaaaaa\0", b"\xc3\xc3aaaaaa"] {
            assert!(matches!(read_bytes(bytes, 4), Err(Reason::Binary)), "{bytes:?}");
        }
    }

    #[test]
    fn word_that_no_server_takes_is_a_reason_to_skip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x".repeat(MAX_WORD + 1)).unwrap();
        assert!(matches!(count_file(&path, usize::MAX), Err(Reason::LongWord { limit: MAX_WORD })));
        fs::write(&path, "two words").unwrap();
        let (bytes, counts) = count_file(&path, 4).unwrap();
        assert_eq!((bytes, counts.len()), (9, 2));
    }
}
