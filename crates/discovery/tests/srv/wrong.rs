//! Wrong answers of a name server: none of them is a list, and none costs much.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farcall_discovery::SrvDiscovery;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::Watcher;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;

const TRUNCATED: u16 = 0x0200;
const SERVER_FAILED: u16 = 2;
const NO_NAME: u16 = 3;
const REFUSED: u16 = 5;

const NAME: &str = "_f._tcp.test";

/// A question that has come.
struct Question {
    bytes: Vec<u8>,
    name: String,
    kind: u16,
    over_tcp: bool,
    at: Instant,
}

/// A record of an answer.
#[derive(Clone)]
struct Answer {
    name: String,
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
}

type Script = Box<dyn FnMut(&Question) -> Vec<Vec<u8>> + Send>;

/// A name server that sends whatever a script returns, over UDP and TCP.
struct FakeNameServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<(String, u16, Instant)>>>,
    _tasks: JoinSet<()>,
}

impl FakeNameServer {
    async fn start(script: impl FnMut(&Question) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The port can be taken there.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let answers = {
            let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
            move |bytes: &[u8], over_tcp| {
                let question = Question::read(bytes, over_tcp);
                asked.lock().unwrap().push((question.name.clone(), question.kind, question.at));
                (script.lock().unwrap().as_mut())(&question)
            }
        };
        let of_tcp = answers.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let Ok((length, from)) = udp.recv_from(&mut buffer).await else { continue };
                for answer in answers(&buffer[..length], false) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                while let Ok(length) = stream.read_u16().await {
                    let mut bytes = vec![0; length.into()];
                    stream.read_exact(&mut bytes).await.unwrap();
                    let answers = of_tcp(&bytes, true);
                    if answers.is_empty() {
                        break;
                    }
                    for answer in answers {
                        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                        stream.write_all(&[&length[..], &answer].concat()).await.unwrap();
                    }
                }
            }
        });
        Self { address, script, asked, _tasks: tasks }
    }

    fn set(&self, script: impl FnMut(&Question) -> Vec<Vec<u8>> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn watch(&self, name: &str) -> Watcher {
        let source = SrvDiscovery::new(name).unwrap().name_servers([self.address]);
        Watcher::with(source.poll_interval(Duration::from_secs(1)))
    }

    fn asked(&self, kind: u16) -> Vec<Instant> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(_, other, _)| *other == kind).map(|(_, _, at)| *at).collect()
    }
}

impl Question {
    fn read(bytes: &[u8], over_tcp: bool) -> Self {
        let (mut at, mut name) = (12, String::new());
        while bytes[at] != 0 {
            let end = at + 1 + usize::from(bytes[at]);
            name.push_str(std::str::from_utf8(&bytes[at + 1..end]).unwrap());
            name.push('.');
            at = end;
        }
        let kind = u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]);
        let name = name.trim_end_matches('.').to_lowercase();
        Self { bytes: bytes[..at + 5].to_vec(), name, kind, over_tcp, at: Instant::now() }
    }

    /// An answer with these flags, which have the response code at their end, and records.
    fn answer(&self, flags: u16, answers: &[Answer], additionals: &[Answer]) -> Vec<u8> {
        let count = |records: &[Answer]| u16::try_from(records.len()).unwrap().to_be_bytes();
        let mut bytes = self.bytes[..2].to_vec();
        bytes.extend((0x8180 | flags).to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(count(answers));
        bytes.extend([0, 0]);
        bytes.extend(count(additionals));
        bytes.extend(&self.bytes[12..]);
        for Answer { name: owner, kind, ttl, data } in answers.iter().chain(additionals) {
            // The owner of most is the question's name.
            if *owner == self.name {
                bytes.extend([0xc0, 12]);
            } else {
                bytes.extend(name(owner));
            }
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(ttl.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    /// The right answer: `host.test` with these ports, at 10.0.0.1.
    fn right(&self, ports: &[u16]) -> Vec<u8> {
        match (&*self.name, self.kind) {
            (NAME, SRV) => {
                let records: Vec<_> = ports.iter().map(|&port| srv(port, "host.test", 1)).collect();
                self.answer(0, &records, &[])
            }
            ("host.test", A) => self.answer(0, &[a("host.test", [10, 0, 0, 1])], &[]),
            _ => self.answer(0, &[], &[]),
        }
    }
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| [&[u8::try_from(label.len()).unwrap()][..], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

fn srv(port: u16, target: &str, ttl: u32) -> Answer {
    let mut data = vec![0, 5, 0, 7];
    data.extend(port.to_be_bytes());
    data.extend(name(target));
    Answer { name: NAME.to_owned(), kind: SRV, ttl, data }
}

fn a(host: &str, address: [u8; 4]) -> Answer {
    Answer { name: host.to_owned(), kind: A, ttl: 1, data: address.to_vec() }
}

fn cname(from: &str, to: &str) -> Answer {
    Answer { name: from.to_owned(), kind: CNAME, ttl: 1, data: name(to) }
}

#[tokio::test]
async fn forged_and_malformed_answers_are_passed_over() {
    let server = FakeNameServer::start(|question| {
        let wrong = question.answer(0, &[srv(6666, "evil.test", 60)], &[a("evil.test", [6, 6, 6, 6])]);
        let mut other_id = wrong.clone();
        other_id[0] ^= 0x55;
        let mut other_question = wrong;
        other_question[13] ^= 0x01;
        let mut answers = vec![Vec::new(), b"\0".to_vec(), other_id, other_question];
        if question.over_tcp {
            answers.clear();
        }
        answers.push(question.right(&[7001, 7002]));
        answers
    })
    .await;
    server.watch(NAME).until_told(&[(7001, 7), (7002, 7)]).await;
}

#[tokio::test]
async fn failing_answers_keep_the_list_and_say_why() {
    let server = FakeNameServer::start(|question| vec![question.right(&[7001])]).await;
    let mut watcher = server.watch(NAME);
    watcher.until_told(&[(7001, 7)]).await;
    let (no_name, root) = (|question: &Question| question.answer(NO_NAME, &[], &[]), srv(7001, ".", 1));
    type Fault = (&'static str, Box<dyn Fn(&Question) -> Vec<u8> + Send>);
    let faults: Vec<Fault> = vec![
        ("the name does not exist", Box::new(no_name)),
        ("there are no SRV records", Box::new(|question| question.answer(0, &[], &[]))),
        ("", Box::new(|question| question.answer(SERVER_FAILED, &[], &[]))),
        ("", Box::new(|question| question.answer(REFUSED, &[], &[]))),
        // What came of it is not the whole, and TCP has nothing.
        (
            "",
            Box::new(|question| {
                if question.over_tcp {
                    Vec::new()
                } else {
                    question.answer(TRUNCATED, &[srv(6666, "host.test", 60)], &[])
                }
            }),
        ),
        ("", Box::new(|question| question.answer(0, &[cname(NAME, NAME)], &[]))),
        (
            "",
            Box::new(|question| {
                let next = if question.name == NAME { "one.test" } else { NAME };
                question.answer(0, &[cname(&question.name, next)], &[])
            }),
        ),
        (
            "no record has a port and a target",
            Box::new(|question| question.answer(0, &[srv(0, "host.test", 1)], &[])),
        ),
        (
            "no record has a port and a target",
            Box::new(move |question| question.answer(0, &[srv(0, "host.test", 1), root.clone()], &[])),
        ),
    ];
    for (at, (said, fault)) in faults.into_iter().enumerate() {
        server.asked.lock().unwrap().clear();
        server.set(move |question| {
            let answer = fault(question);
            if answer.is_empty() { Vec::new() } else { vec![answer] }
        });
        let list = watcher.until(&format!("failure {at}"), |list| list.failing.is_some()).await;
        let reason = list.failing.unwrap().reason;
        assert!(reason.contains(said) && reason.len() < 400, "{at}: {reason}");
        assert_eq!(list.endpoints[0].address.to_string(), "tcp@10.0.0.1:7001", "{at}");
        let asked = server.asked.lock().unwrap().len();
        assert!(asked < 50, "{at}: {asked} questions");
        server.set(|question| vec![question.right(&[7001])]);
        watcher.until_told(&[(7001, 7)]).await;
    }
}

#[tokio::test]
async fn target_that_loops_or_fails_costs_few_questions_and_no_endpoint() {
    let server = FakeNameServer::start(|question| vec![question.right(&[7001])]).await;
    let mut watcher = server.watch(NAME);
    watcher.until_told(&[(7001, 7)]).await;
    for fault in [
        |question: &Question| question.answer(0, &[cname("host.test", "host.test")], &[]),
        |question: &Question| question.answer(SERVER_FAILED, &[], &[]),
    ] {
        server.asked.lock().unwrap().clear();
        server.set(move |question| {
            vec![if question.kind == SRV { question.right(&[7001, 7002]) } else { fault(question) }]
        });
        let rounds = || server.asked(SRV).len();
        farcall_test_support::wait::until("two more rounds", || rounds() >= 3).await;
        let asked = server.asked(A).len() + server.asked(AAAA).len();
        assert!(asked < 50, "{asked} questions");
        let list = watcher.seen.borrow().clone();
        let addresses: Vec<_> =
            list.endpoints.iter().map(|endpoint| endpoint.address.host().unwrap()).collect();
        assert!(!addresses.is_empty() && addresses.iter().all(|host| *host == "10.0.0.1"), "{addresses:?}");
        server.set(|question| vec![question.right(&[7001])]);
        watcher.until_told(&[(7001, 7)]).await;
    }
}

#[tokio::test]
async fn records_without_a_port_are_no_empty_list_of_names() {
    let server = FakeNameServer::start(|question| vec![question.right(&[7001])]).await;
    let mut watcher = server.watch("tls@_f._tcp.test");
    watcher.until_told(&[(7001, 7)]).await;
    server.set(|question| vec![question.right(&[0])]);
    let list = watcher.until("a failure", |list| list.failing.is_some()).await;
    assert!(list.failing.unwrap().reason.contains("no record has a port and a target"));
    assert_eq!(list.endpoints.len(), 1);
    // This says that there is no server.
    server.set(|question| vec![question.answer(0, &[srv(0, ".", 1)], &[])]);
    watcher.until_told(&[]).await;
}

#[tokio::test]
async fn answer_without_time_to_live_is_asked_for_once_a_second() {
    let server = FakeNameServer::start(|question| {
        let (mut record, mut address) = (srv(7001, "host.test", 0), a("host.test", [10, 0, 0, 1]));
        (record.ttl, address.ttl) = (0, 0);
        vec![question.answer(0, &[record], &[address])]
    })
    .await;
    let mut watcher = server.watch(NAME);
    watcher.until_told(&[(7001, 7)]).await;
    farcall_test_support::wait::until("three questions", || server.asked(SRV).len() >= 3).await;
    let asked = server.asked(SRV);
    assert!(asked.windows(2).all(|two| two[1] - two[0] >= Duration::from_secs(1)), "{asked:?}");
    assert_eq!(server.asked(A).len() + server.asked(AAAA).len(), 0, "addresses came with the records");
}

#[tokio::test]
async fn huge_answer_is_cut_short() {
    let server = FakeNameServer::start(|question| {
        if !question.over_tcp {
            return vec![question.answer(TRUNCATED, &[], &[])];
        }
        let records: Vec<_> = (1..=900).map(|port| srv(port, NAME, 60)).collect();
        let addresses: Vec<_> =
            (0..1800_u16).map(|n| a(NAME, [10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]])).collect();
        vec![question.answer(0, &records, &addresses)]
    })
    .await;
    let mut watcher = server.watch(NAME);
    let list = watcher.until("a list", |list| list.confirmed.is_some()).await;
    assert_eq!(list.endpoints.len(), 1024);
}
