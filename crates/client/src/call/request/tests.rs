use std::sync::Arc;

use super::*;

const S: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn second_start_can_only_shorten_the_deadline() {
    let mut outer = Metadata::new();
    outer.insert("tenant", "blue").unwrap();
    let inherited = Inherited::default().metadata(Some(Arc::new(outer)));
    let mut request = Request::new("A.a".into(), Ok(Body::default()), Some(2 * S), inherited);
    request.start().unwrap();
    assert_eq!(request.metadata().unwrap().get("tenant"), Some("blue"));
    tokio::time::advance(S).await;
    request.set_metadata("tenant", "green");
    request.set_timeout(5 * S);
    request.start().unwrap();
    assert_eq!((request.timeout(), request.deadline().unwrap().limit), (Some(S), 2 * S));
    assert_eq!(request.metadata().unwrap().get("tenant"), Some("green"));
    request.set_timeout(S / 2);
    request.start().unwrap();
    assert_eq!(request.timeout(), Some(S / 2));
}

#[test]
fn metadata_error_is_reported_before_an_encode_error() {
    let codec = Codec::default();
    let unencodable = codec.encode_body(&std::collections::HashMap::from([((1, 2), 3)]));
    let mut request = Request::new("A.a".into(), unencodable, None, Inherited::default());
    request.set_metadata("Upper", "case");
    request.set_metadata("Other", "case");
    let error = request.start().unwrap_err();
    assert!(error.message().starts_with("`A.a`: ") && error.message().contains("Upper"), "{error}");
}
