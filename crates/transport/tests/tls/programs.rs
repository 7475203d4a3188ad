//! Other programs that connect to a listener.

use std::fs;
use std::process::{Output, Stdio};

use farcall_test_support::pki::Authority;
use farcall_test_support::wait::within_patience;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::{listen, server};

/// Returns the output of `openssl s_client`, and the byte that the listener reads from it.
async fn s_client(args: &[&str]) -> (String, std::io::Result<u8>) {
    let authority = Authority::new("ca");
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("ca.pem");
    fs::write(&roots, &authority.certificate).unwrap();
    let listener = listen(&server(&authority.issue(&["127.0.0.1"]))).await;
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
    let (output, read) =
        within_patience("openssl and the listener are done", async { tokio::join!(program, accept) }).await;
    let Output { stdout, stderr, .. } = output.expect("openssl, which scripts/install-test-tools installs");
    (String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned(), read)
}

#[tokio::test]
async fn openssl_negotiates_farcall_and_verifies_the_certificate() {
    for version in ["-tls1_3", "-tls1_2"] {
        let (output, read) = s_client(&["-alpn", "h2,farcall/1", version]).await;
        assert!(output.contains("ALPN protocol: farcall/1"), "{output}");
        assert!(output.contains("Verify return code: 0 (ok)"), "{output}");
        // openssl closes with a close_notify when its input has ended.
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn openssl_with_another_application_protocol_is_refused() {
    let (output, read) = s_client(&["-alpn", "h2"]).await;
    assert!(output.contains("no application protocol"), "{output}");
    assert_eq!(super::tls_error(read), farcall_transport::TlsErrorKind::NotFarcall);
    let (_, read) = s_client(&[]).await;
    assert_eq!(super::tls_error(read), farcall_transport::TlsErrorKind::NotFarcall);
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let (output, read) = s_client(&["-alpn", "farcall/1", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).await;
    assert!(
        !output.contains("Verify return code: 0 (ok)") || output.contains("Cipher is (NONE)"),
        "{output}"
    );
    assert!(read.is_err());
}
