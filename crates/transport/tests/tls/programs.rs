//! Other programs that connect to a listener.

use std::fs;
use std::process::{Output, Stdio};

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::authority::Authority;
use super::{PATIENCE, listen, server};

/// Returns the output of `openssl s_client`, and what the listener reads of it.
async fn s_client(args: &[&str]) -> (String, std::io::Result<u8>) {
    let authority = Authority::new("ca");
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("ca.pem");
    fs::write(&roots, &authority.pem).unwrap();
    let listener = listen(&server(&authority.sign(&["127.0.0.1"]))).await;
    let to = listener.address().socket_addr().unwrap().to_string();
    let program = Command::new("openssl")
        .args(["s_client", "-connect", &to, "-CAfile", roots.to_str().unwrap()])
        .args(["-verify_ip", "127.0.0.1"])
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let accept = async {
        let (mut stream, _) = listener.accept().await?;
        stream.read_u8().await
    };
    let (output, read) = timeout(PATIENCE, async { tokio::join!(program, accept) }).await.unwrap();
    let Output { stdout, stderr, .. } = output.expect("openssl, which scripts/install-test-tools installs");
    (String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(), read)
}

#[tokio::test]
async fn openssl_agrees_on_farcall_inside_and_verifies_the_certificate() {
    for version in ["-tls1_3", "-tls1_2"] {
        let (said, read) = s_client(&["-alpn", "h2,farcall/1", version]).await;
        assert!(said.contains("ALPN protocol: farcall/1"), "{said}");
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        // It said goodbye, as its input had ended.
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn openssl_is_refused_where_it_would_speak_something_else() {
    let (said, read) = s_client(&["-alpn", "h2"]).await;
    assert!(said.contains("no application protocol"), "{said}");
    assert_eq!(super::fault(read), farcall_transport::TlsErrorKind::NotFarcall);
    let (_, read) = s_client(&[]).await;
    assert_eq!(super::fault(read), farcall_transport::TlsErrorKind::NotFarcall);
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let (said, read) = s_client(&["-alpn", "farcall/1", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).await;
    assert!(!said.contains("Verify return code: 0 (ok)") || said.contains("Cipher is (NONE)"), "{said}");
    assert!(read.is_err());
}
