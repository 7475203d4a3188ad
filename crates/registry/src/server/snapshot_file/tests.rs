//! Snapshots are written and read; what is damaged is renamed, what is newer refused.

use super::super::snapshot_lines::SavedChange;
use super::*;
use crate::wire::InstanceName;

fn instance(port: u16) -> SavedInstance {
    let instance = format!(
        r#"{{"registered":{{"service":"A","id":"tcp@10.0.0.1:{port}","addr":"10.0.0.1:{port}"}},
        "registered_at":"2031-04-05T06:07:08.009Z","last_seen":"2031-04-05T06:07:09.010Z"}}"#
    );
    serde_json::from_str(&instance).unwrap()
}

fn saved() -> SavedStore {
    SavedStore { instances: vec![instance(7001), instance(7002)], ..SavedStore::default() }
}

fn write(file: &Path, saved: &SavedStore) -> Written {
    let (sender, mut parts) = tokio::sync::mpsc::channel(8);
    for instance in &saved.instances {
        sender.try_send(Part::Instances(vec![instance.clone()])).unwrap();
    }
    sender.try_send(Part::End).unwrap();
    replace(file, saved, &mut parts, &mut SnapshotLock::default()).unwrap()
}

fn lines(changes: &[SavedChange]) -> Vec<u8> {
    let mut lines = Vec::new();
    changes.iter().for_each(|change| snapshot_lines::push(&mut lines, change));
    lines
}

fn delete(port: u16) -> SavedChange {
    let id = format!("tcp@10.0.0.1:{port}");
    SavedChange::Delete(InstanceName { service: "A".to_owned(), id })
}

fn files(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn written_snapshot_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    assert_eq!(read(&file).unwrap(), None);
    for saved in [SavedStore::default(), saved()] {
        write(&file, &saved);
        assert_eq!(read(&file).unwrap(), Some(saved));
    }
    assert_eq!(files(directory.path()).len(), 1);
}

#[test]
fn file_of_version_1_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let instances = serde_json::to_string(&saved().instances).unwrap();
    let text = format!(
        r#"{{"format":"{FORMAT}","version":1,"written_at":"2031-04-05T06:07:08.009Z","warming":false,"instances":{instances},"kept":[]}}"#
    );
    for (end, is_read) in [("\n", true), ("\n{\"warming\":true}\n", false)] {
        fs::write(&file, format!("{text}{end}")).unwrap();
        assert_eq!(read(&file).unwrap(), is_read.then(saved));
    }
}

#[test]
fn appended_changes_are_applied() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let mut written = write(&file, &saved());
    let mut changed = instance(7001);
    changed.stale = true;
    let first = lines(&[SavedChange::Put(Box::new(changed.clone())), delete(7002)]);
    assert!(written.append(&file, &first).unwrap());
    let second = lines(&[SavedChange::Put(Box::new(instance(7003))), SavedChange::Warming(true)]);
    assert!(written.append(&file, &second).unwrap());
    let read_back = read(&file).unwrap().unwrap();
    assert_eq!((read_back.instances, read_back.warming), (vec![changed, instance(7003)], true));
}

#[test]
fn another_file_is_not_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let mut written = write(&file, &saved());
    let line = lines(&[delete(7001)]);
    let content = fs::read(&file).unwrap();
    fs::rename(&file, directory.path().join("moved")).unwrap();
    assert!(!written.append(&file, &line).unwrap());
    fs::write(&file, &content).unwrap();
    assert!(!written.append(&file, &line).unwrap(), "it has the same content, but is another file");
    let mut written = write(&file, &saved());
    fs::write(&file, b"cut").unwrap();
    assert!(!written.append(&file, &line).unwrap(), "it has another size");
}

#[test]
fn snapshot_that_is_cut_anywhere_keeps_whole_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let mut written = write(&file, &saved());
    let document = fs::read(&file).unwrap().len();
    written.append(&file, &lines(&[delete(7001), delete(7002)])).unwrap();
    let whole = fs::read(&file).unwrap();
    let line = lines(&[delete(7001)]).len();
    for end in document..=whole.len() {
        for zeros in [0, 40] {
            fs::write(&file, [&whole[..end], &vec![0; zeros]].concat()).unwrap();
            let left = read(&file).unwrap().unwrap();
            assert_eq!((left.instances.len(), left.warming), (2 - (end - document) / line, false), "{end}");
        }
    }
    assert_eq!(files(directory.path()).len(), 1);
}

#[test]
fn damage_among_the_changes_keeps_what_stands_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    let mut written = write(&file, &saved());
    let changes = lines(&[delete(7001), SavedChange::Warming(false), delete(7002)]);
    written.append(&file, &changes).unwrap();
    let damaged = fs::read_to_string(&file).unwrap().replace("{\"warming\":false}", "{\"warm\0ng\":false}");
    fs::write(&file, &damaged).unwrap();
    let left = read(&file).unwrap().unwrap();
    assert_eq!((left.instances, left.warming), (vec![instance(7002)], true));
    let [renamed] = &*files(directory.path()) else { panic!("one file is left") };
    assert_eq!(fs::read_to_string(directory.path().join(renamed)).unwrap(), damaged);
}

#[test]
fn abandoned_write_leaves_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    write(&file, &saved());
    let (sender, mut parts) = tokio::sync::mpsc::channel(8);
    sender.try_send(Part::Instances(vec![instance(1)])).unwrap();
    drop(sender);
    assert!(replace(&file, &SavedStore::default(), &mut parts, &mut SnapshotLock::default()).is_err());
    assert_eq!(read(&file).unwrap(), Some(saved()));
}

#[test]
fn document_is_written_again_when_changes_take_more() {
    let mut written = Written { identity: (0, 0), document: 100, size: 100 + MIN_CHANGES_BYTES - 1 };
    assert!(!written.is_full());
    written.size += 1;
    assert!(written.is_full());
    let large = 10 * MIN_CHANGES_BYTES;
    assert!(!Written { identity: (0, 0), document: large, size: 2 * large - 1 }.is_full());
    assert!(Written { identity: (0, 0), document: large, size: 2 * large }.is_full());
}

#[test]
fn damaged_snapshot_is_renamed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    write(&file, &saved());
    let whole = fs::read_to_string(&file).unwrap();
    let damages = [
        String::new(),
        "\0\0\0".to_owned(),
        "{}".to_owned(),
        whole[..whole.len() / 2].to_owned(),
        whole.replace(FORMAT, "another"),
        whole.replace("\"version\":2", "\"version\":0"),
        whole.replace("\"version\":2", "\"version\":3").replace(FORMAT, "another"),
        whole.replace("10.0.0.1:7001", "0.0.0.0:0"),
    ];
    for damaged in damages {
        assert_ne!(damaged, whole);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registry.json");
        fs::write(&file, &damaged).unwrap();
        assert_eq!(read(&file).unwrap(), None, "{damaged}");
        let [renamed] = &*files(directory.path()) else { panic!("one file is left") };
        assert!(renamed.contains("registry.json.damaged-2"));
        assert_eq!(fs::read_to_string(directory.path().join(renamed)).unwrap(), damaged);
    }
}

#[test]
fn snapshot_of_a_newer_version_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.json");
    write(&file, &saved());
    let whole = fs::read_to_string(&file).unwrap();
    for (version, rest) in [("3", 0), ("4294967296", 0), ("3", whole.len() / 2), ("3", 60)] {
        let newer = whole.replace("\"version\":2", &format!("\"version\":{version}"));
        // Newer versions may have what this one cannot parse behind it.
        let newer = if rest == 0 { newer } else { format!("{}\0", &newer[..rest]) };
        fs::write(&file, &newer).unwrap();
        let error = read(&file).unwrap_err().to_string();
        let versions = format!("has version {version}, and this registry reads versions 1 to 2");
        assert!(error.contains(&versions) && error.contains("registry.json"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), newer);
        assert_eq!(files(directory.path()).len(), 1);
    }
}

#[test]
fn unusable_snapshot_is_an_error_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    for file in [directory.path().to_owned(), directory.path().join("no/where.json"), "/dev/zero".into()] {
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
    }
}
