//! Changes that administrators make by hand.

use farcall_etcd::{EtcdAdmin, EtcdAdminError};

use crate::server::EtcdServer;
use crate::support::{Follower, config, instance, register};

#[tokio::test]
async fn instance_is_weighted_drained_and_removed() {
    let etcd = EtcdServer::start().await;
    let options = config(&etcd.url());
    let _lease = register(&options, &instance("Arith", 7001).weight(70)).await;
    let _other = register(&options, &instance("Arith", 7002)).await;
    let mut follower = Follower::new(&options, "Arith");
    follower.until_ports(&[7001, 7002]).await;
    let admin = EtcdAdmin::new(&options).unwrap();
    let weight = async || admin.instances("Arith").await.unwrap()[0].weight;
    let id = admin.instances("Arith").await.unwrap()[0].id.clone();
    assert_eq!(weight().await, 70);
    admin.set_weight("Arith", &id, 7).await.unwrap();
    assert_eq!(weight().await, 7);
    admin.drain("Arith", &id).await.unwrap();
    // The weight before is remembered, also by a second one.
    admin.drain("Arith", &id).await.unwrap();
    assert_eq!(weight().await, 0);
    admin.undrain("Arith", &id).await.unwrap();
    assert_eq!(weight().await, 7);

    admin.remove("Arith", &id).await.unwrap();
    follower.until_ports(&[7002]).await;
    let error = admin.drain("Arith", &id).await.unwrap_err();
    assert!(matches!(error, EtcdAdminError::Unknown { .. }), "{error}");
}
