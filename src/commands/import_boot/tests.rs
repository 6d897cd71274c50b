//! The steps under a power cut after each of them, and what is refused.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::config::{Config, LoadOptions};

const OLD: &str = "name = \"old\"\n[[decoder]]\nname = \"mat\"\nprotocol = \"ipico\"\naddress = \"tcp://10.0.0.1:10000\"\ntimezone = \"UTC\"\n[cloud]\nurl = \"https://api.runonrufus.com/v0\"\ndevice_id = \"OLD\"\napi_key_file = \"api_key\"\n";
const NEW: &str = "name = \"new\"\r\n[[decoder]]\r\nname = \"mat\"\r\nprotocol = \"ipico\"\r\naddress = \"tcp://10.0.0.2:10000\"\r\ntimezone = \"UTC\"\r\n[cloud]\r\nurl = \"https://api.runonrufus.com/v0\"\r\ndevice_id = \"NEW\"\r\n";
const OLD_KEY: &str = "ror-00000000000000000000";
const NEW_KEY: &str = "ror-11111111111111111111";

struct Card {
    dir: TempDir,
    boot: Boot,
    file: PathBuf,
}

impl Card {
    /// A box with the old files, and a card with these.
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (boot, etc) = (dir.path().join("boot"), dir.path().join("etc"));
        fs::create_dir(&boot).unwrap();
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("passbridge.toml"), OLD).unwrap();
        fs::write(etc.join("api_key"), format!("{OLD_KEY}\n")).unwrap();
        fs::set_permissions(etc.join("api_key"), fs::Permissions::from_mode(0o600)).unwrap();
        for (name, text) in files {
            fs::write(boot.join(name), text).unwrap();
        }
        Self { file: etc.join("passbridge.toml"), boot: Boot(boot), dir }
    }

    fn run(&self) -> Result<(), Failure> {
        run(&ImportBootArgs { config: self.file.clone(), from: Some(self.boot.0.clone()) })
    }

    /// The name and the key of the configuration that the service would start with.
    fn in_force(&self) -> (String, String) {
        let options = LoadOptions { environment: Vec::new(), ..LoadOptions::new(&self.file) };
        let config = Config::load(&options).unwrap().config;
        let key = config.cloud.unwrap().api_key.unwrap();
        (config.name, key.expose_secret().to_owned())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.boot.0).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn note(&self) -> String {
        fs::read_to_string(self.boot.at(ERROR)).unwrap()
    }
}

fn pair(name: &str, key: &str) -> (String, String) {
    (name.to_owned(), key.to_owned())
}

#[test]
fn both_files_are_taken_over_and_the_key_is_gone_from_the_card() {
    let card = Card::new(&[(CONFIG, NEW), (KEY, &format!("\u{feff}{NEW_KEY}\r\n")), (ERROR, "of the last time")]);
    card.run().unwrap();
    assert_eq!(card.in_force(), pair("new", NEW_KEY));
    assert_eq!(card.names(), ["passbridge.toml.taken-over"]);
    let text = fs::read_to_string(&card.file).unwrap();
    assert!(!text.contains('\r') && text.contains("api_key_file = \"api_key\""), "{text}");
    let key = card.dir.path().join("etc/api_key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    // The next boot changes nothing.
    fs::write(&card.file, OLD).unwrap();
    card.run().unwrap();
    assert_eq!(card.in_force(), pair("old", NEW_KEY));
}

#[test]
fn one_file_alone_is_taken_over_and_the_other_stays_as_it_was() {
    let card = Card::new(&[(CONFIG, NEW)]);
    card.run().unwrap();
    assert_eq!(card.in_force(), pair("new", OLD_KEY));
    assert_eq!(card.names(), ["passbridge.toml.taken-over"]);
    let card = Card::new(&[(KEY, NEW_KEY)]);
    card.run().unwrap();
    assert_eq!(card.in_force(), pair("old", NEW_KEY));
    assert_eq!(fs::read_to_string(&card.file).unwrap(), OLD);
    assert_eq!(card.names(), Vec::<String>::new());
}

#[test]
fn a_power_cut_after_any_step_leaves_the_old_or_the_new_in_force_and_a_key_that_can_be_used() {
    let offers: [&[(&str, &str)]; 3] = [&[(CONFIG, NEW), (KEY, NEW_KEY)], &[(CONFIG, NEW)], &[(KEY, NEW_KEY)]];
    for files in offers {
        let whole = Card::new(files);
        let steps = whole.boot.offer(&whole.file).unwrap().unwrap().plan(&whole.file, true).unwrap().steps.len();
        whole.run().unwrap();
        assert!(steps >= 3, "{steps}");
        for cut in 0..=steps {
            let card = Card::new(files);
            let before = card.in_force();
            let plan = card.boot.offer(&card.file).unwrap().unwrap().plan(&card.file, true).unwrap();
            for step in &plan.steps[..cut] {
                step.take(&card.boot).unwrap();
                // The key is on the box, durably and whole, before anything happens to it on the card.
                let on_the_card = fs::read_to_string(card.boot.at(KEY)).ok();
                assert!(on_the_card.is_some() || card.in_force().1 == whole.in_force().1, "{cut}");
            }
            let (name, _) = card.in_force();
            assert!(name == before.0 || name == whole.in_force().0, "{cut}: {name}");
            // The power comes back.
            card.run().unwrap();
            assert_eq!((card.in_force(), card.names()), (whole.in_force(), whole.names()), "cut after step {cut}");
        }
    }
}

#[test]
fn a_key_that_was_half_overwritten_when_the_power_failed_is_removed_and_never_read() {
    let card = Card::new(&[("passbridge.key.taken-over", "ror-\0\0\0\0")]);
    card.run().unwrap();
    assert_eq!((card.in_force(), card.names()), (pair("old", OLD_KEY), Vec::new()));
}

#[test]
fn what_is_refused_leaves_the_old_in_force_and_tells_line_and_cure_on_the_card() {
    let wrong_address = NEW.replace("tcp://10.0.0.2:10000", "10.0.0.2");
    let no_decoder = NEW.replace("[[decoder]]", "[[decoders]]");
    let twice = NEW.replace("timezone = \"UTC\"\r\n", "timezone = \"UTC\"\r\nname = \"x\"\r\n");
    for (files, code, told) in [
        (vec![(CONFIG, wrong_address.as_str()), (KEY, NEW_KEY)], 78, "passbridge.toml, line 5: decoder[0].address"),
        (vec![(CONFIG, no_decoder.as_str())], 78, "unknown key `decoders`; did you mean"),
        (vec![(CONFIG, twice.as_str())], 78, "passbridge.toml, line 7: `name` is here twice"),
        (vec![(CONFIG, "")], 78, "at least one [[decoder]]"),
        (vec![(CONFIG, NEW), (KEY, "two words")], 65, "passbridge.key: the file holds more than one word"),
        (vec![(KEY, "")], 65, "passbridge.key: the file is empty"),
        (vec![("passbridge.toml.txt", NEW)], 78, "passbridge.toml.txt must be named passbridge.toml"),
        (vec![(CONFIG, NEW), ("passbridge.key.txt", NEW_KEY)], 78, "passbridge.key.txt must be named passbridge.key"),
    ] {
        let card = Card::new(&files);
        let failure = card.run().unwrap_err();
        assert_eq!(failure.exit_code(), code, "{failure}");
        let note = card.note();
        assert!(note.contains(told) && note.contains("goes on with what it had before"), "{note}");
        assert!(
            note.contains(CORRECT) && note.ends_with("\r\n") && !note.replace("\r\n", "").contains('\n'),
            "{note:?}"
        );
        assert!(!note.contains(NEW_KEY) && !failure.to_string().contains(NEW_KEY), "{note}");
        assert_eq!(card.in_force(), pair("old", OLD_KEY), "{told}");
        for (name, text) in files {
            assert_eq!(fs::read_to_string(card.boot.at(name)).unwrap(), text, "it is still on the card: {told}");
        }
    }
}

#[test]
fn files_that_no_text_editor_of_today_makes_are_refused_with_what_to_do() {
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(NEW.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let latin =
        NEW.replace("new", "Pf\u{1}hl").into_bytes().into_iter().map(|byte| if byte == 1 { 0xe4 } else { byte });
    let large = vec![b'#'; CONFIG_LIMIT as usize + 1];
    for (name, bytes, told) in [
        (CONFIG, utf16.clone(), "Save it with the encoding UTF-8"),
        (KEY, utf16, "save it with the encoding UTF-8"),
        (CONFIG, latin.collect(), "line 1 is no UTF-8 text"),
        (CONFIG, large, "larger than 1048576 bytes"),
    ] {
        let card = Card::new(&[]);
        fs::write(card.boot.at(name), bytes).unwrap();
        card.run().unwrap_err();
        assert!(card.note().contains(told), "{told}: {}", card.note());
        assert_eq!(card.in_force(), pair("old", OLD_KEY));
    }
}

#[test]
fn a_corrected_file_is_taken_over_and_the_note_goes_also_when_the_bad_file_is_taken_away() {
    let card = Card::new(&[(CONFIG, "name = ")]);
    card.run().unwrap_err();
    assert!(card.note().contains("line 1"), "{}", card.note());
    fs::write(card.boot.at(CONFIG), NEW).unwrap();
    card.run().unwrap();
    assert_eq!((card.in_force().0.as_str(), card.names()), ("new", vec!["passbridge.toml.taken-over".to_owned()]));
    let card = Card::new(&[(CONFIG, "name = ")]);
    card.run().unwrap_err();
    fs::remove_file(card.boot.at(CONFIG)).unwrap();
    card.run().unwrap();
    assert_eq!(card.names(), Vec::<String>::new());
}

#[test]
fn a_box_without_a_key_reads_all_the_same_and_the_card_says_what_is_missing() {
    let card = Card::new(&[(CONFIG, NEW)]);
    fs::remove_file(card.dir.path().join("etc/api_key")).unwrap();
    card.run().unwrap();
    assert!(fs::read_to_string(&card.file).unwrap().contains("name = \"new\""));
    assert!(card.note().contains("Put the API key, and nothing else, into a file passbridge.key"), "{}", card.note());
    fs::write(card.boot.at(KEY), NEW_KEY).unwrap();
    card.run().unwrap();
    assert_eq!(card.in_force(), pair("new", NEW_KEY));
    assert_eq!(card.names(), ["passbridge.toml.taken-over"]);
}

#[test]
fn a_box_whose_disk_cannot_be_written_says_so_on_the_card() {
    let card = Card::new(&[(CONFIG, NEW)]);
    // A directory where the new file would be: nobody can write there, root neither.
    fs::create_dir_all(card.dir.path().join("etc/.passbridge.toml.new/x")).unwrap();
    let failure = card.run().unwrap_err();
    assert_eq!(failure.exit_code(), 74);
    assert!(
        card.note().contains("passbridge.toml cannot be written") && card.note().contains(LATER),
        "{}",
        card.note()
    );
    assert_eq!(card.in_force(), pair("old", OLD_KEY));
}

#[test]
fn without_anything_on_the_card_nothing_happens() {
    let card = Card::new(&[]);
    card.run().unwrap();
    assert_eq!((card.in_force(), card.names()), (pair("old", OLD_KEY), Vec::new()));
}

#[test]
fn what_is_certainly_no_key_and_what_is_no_file_leaves_the_old_key_in_force() {
    for text in
        ["X", "<html><title>Sign in</title>", "\"ror-11111111111111111111\"", "api_key=ror-11111111111111111111"]
    {
        let card = Card::new(&[(KEY, text)]);
        assert_eq!(card.run().unwrap_err().exit_code(), 65, "{text}");
        assert_eq!(card.in_force(), ("old".to_owned(), OLD_KEY.to_owned()), "{text}");
        let note = fs::read_to_string(card.boot.at(ERROR)).unwrap();
        assert!(note.contains("passbridge.key: "), "{note}");
    }
    let card = Card::new(&[]);
    let other = card.dir.path().join("other");
    fs::write(&other, NEW_KEY).unwrap();
    std::os::unix::fs::symlink(&other, card.boot.at(KEY)).unwrap();
    assert_eq!(card.run().unwrap_err().exit_code(), 78);
    assert_eq!(card.in_force(), ("old".to_owned(), OLD_KEY.to_owned()));
    assert_eq!(fs::read_to_string(&other).unwrap(), NEW_KEY, "what a link points at is not written over");
}

#[test]
fn the_note_names_the_mistakes_of_both_files_and_a_key_that_is_missing() {
    let wrong = NEW.replace("ipico", "ipcio") + "[upload]\r\nbatch_max = 0\r\n";
    let card = Card::new(&[(CONFIG, &wrong), (KEY, "too short")]);
    assert_eq!(card.run().unwrap_err().exit_code(), 78);
    let note = card.note();
    assert!(["line 4", "line 11", "passbridge.key: "].iter().all(|what| note.contains(what)), "{note}");
    assert!(!note.contains("no API key"), "it is there, and wrong: {note}");

    let card = Card::new(&[("passbridge.toml.txt", NEW), ("passbridge.key.txt", NEW_KEY)]);
    assert_eq!(card.run().unwrap_err().exit_code(), 78);
    let note = card.note();
    assert!(note.contains("passbridge.toml.txt must") && note.contains("passbridge.key.txt must"), "{note}");

    let card = Card::new(&[(CONFIG, &wrong)]);
    fs::remove_file(card.dir.path().join("etc/api_key")).unwrap();
    assert_eq!(card.run().unwrap_err().exit_code(), 78);
    assert!(card.note().contains("line 4") && card.note().contains("has no API key"), "{}", card.note());
}

#[test]
fn a_place_that_is_not_there_is_a_mistake() {
    let card = Card::new(&[]);
    let from = Some(card.boot.at("nowhere"));
    let failure = run(&ImportBootArgs { config: card.file.clone(), from }).unwrap_err();
    assert!(failure.exit_code() == 64 && failure.to_string().contains("nowhere"), "{failure}");
}
