//! Finds the data directory although the file cannot be understood.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::layers::FILE_LIMIT;
use super::load::{DATA_DIR, LoadOptions, variable};
use super::settings::Config;

impl LoadOptions {
    /// The data directory, also when the file cannot be understood or is not there. Then the line of
    /// the file that names the directory counts if it can be found, and otherwise the default. This is
    /// for commands that only ask the running box.
    pub fn data_dir_anyway(&self) -> PathBuf {
        if let Some(dir) = &self.data_dir {
            return dir.clone();
        }
        if let Ok(loaded) = Config::load_what_is_right(&Self { keyless: true, ..self.clone() }) {
            return loaded.config.data_dir;
        }
        if let Some(dir) = variable(&self.environment, "PASSBRIDGE__DATA_DIR") {
            return dir;
        }
        let bytes = std::fs::File::open(&self.file).map(|file| {
            let mut bytes = Vec::new();
            let _ = file.take(FILE_LIMIT).read_to_end(&mut bytes); // what was read counts
            bytes
        });
        let named = String::from_utf8_lossy(&bytes.unwrap_or_default()).lines().find_map(data_dir_in);
        let base = self.file.parent().unwrap_or(Path::new(""));
        base.join(named.unwrap_or_else(|| DATA_DIR.to_owned()))
    }
}

/// The directory that a line like `data_dir = "…"` names.
fn data_dir_in(line: &str) -> Option<String> {
    let value = line.trim().strip_prefix("data_dir")?.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let (dir, _) = value[1..].split_once(quote)?;
    (!dir.is_empty()).then(|| dir.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_is_found_in_a_file_that_cannot_be_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passbridge.toml");
        let options = LoadOptions { environment: Vec::new(), ..LoadOptions::new(&file) };
        assert_eq!(options.data_dir_anyway(), PathBuf::from(DATA_DIR), "there is no file");
        for (text, found) in [
            ("data_dir = \"/data\"\n[cloud\n", "/data"),
            ("[cloud\n  data_dir='/my data' # here\n", "/my data"),
            ("name = \"finish\ndata_dir = \"kept\"\n", dir.path().join("kept").to_str().unwrap()),
            ("# data_dir = \"/other\"\n[[decoder]\n", DATA_DIR),
            ("data_dir = \"/open\n", DATA_DIR),
            ("data_dir = \n=", DATA_DIR),
            ("data_dir = \"/data\"\n", "/data"),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(options.data_dir_anyway(), PathBuf::from(found), "{text}");
            let flag = LoadOptions { data_dir: Some("/flag".into()), ..options.clone() };
            assert_eq!(flag.data_dir_anyway(), PathBuf::from("/flag"), "{text}");
        }
        std::fs::write(&file, b"data_dir = \"/data\"\nname = \"\xff\"\n").unwrap();
        assert_eq!(options.data_dir_anyway(), PathBuf::from("/data"));
        let variable = ("PASSBRIDGE__DATA_DIR".into(), "/variable".into());
        let options = LoadOptions { environment: vec![variable], ..options };
        assert_eq!(options.data_dir_anyway(), PathBuf::from("/variable"));
    }
}
