//! The configuration of a box that nobody has set up yet: there is no file.

use std::io::ErrorKind;

use super::layers::ConfigError;
use super::load::{LoadOptions, Loaded};
use super::settings::{Config, Fault, Part};

impl LoadOptions {
    /// Whether the configuration file, or a directory on the way to it, is not there. A file that
    /// may not be read is there.
    pub(crate) fn file_is_missing(&self) -> bool {
        let missing = || std::fs::metadata(&self.file).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.text.is_none() && missing()
    }
}

impl Config {
    /// Like [`Config::load_what_is_right`], for the daemon, which also starts without a file. Then
    /// everything has its default, the only fault is [`Part::NotSetUp`], and the environment and the
    /// flags count as ever.
    ///
    /// # Errors
    /// Like [`Config::load_what_is_right`], but a file that is not there is no error.
    pub fn load_or_not_set_up(options: &LoadOptions) -> Result<Loaded, ConfigError> {
        if !options.file_is_missing() {
            return Self::load_what_is_right(options);
        }
        let empty = LoadOptions { text: Some(String::new()), ..options.clone() };
        let mut loaded = Self::load_what_is_right(&empty)?;
        let faults = &mut loaded.config.faults;
        // That there is no decoder follows from it, and is not worth a second problem.
        faults.retain(|fault| fault.part != Part::NoDecoder);
        let error = ConfigError::new(options.file.display().to_string(), "there is no such configuration file");
        faults.insert(0, Fault { part: Part::NotSetUp, about: String::new(), error });
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_is_not_there_is_no_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/passbridge.toml");
        let options = LoadOptions { environment: Vec::new(), ..LoadOptions::new(&file) };
        for made in ["neither the directory", "nor the file"] {
            let config = Config::load_or_not_set_up(&options).unwrap().config;
            let parts: Vec<_> = config.faults.iter().map(|fault| fault.part).collect();
            assert_eq!((parts, config.decoders.len()), (vec![Part::NotSetUp], 0), "{made}");
            assert!(config.cloud.is_none() && config.faults[0].error.to_string().contains("etc/passbridge.toml"));
            assert!(Config::load_what_is_right(&options).is_err(), "a command that needs the file says so");
            let _ = std::fs::create_dir(dir.path().join("etc"));
        }
        std::fs::create_dir(&file).unwrap();
        assert!(Config::load_or_not_set_up(&options).is_err(), "a directory in its place");
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, "name = \n").unwrap();
        assert!(Config::load_or_not_set_up(&options).is_err(), "a file that cannot be understood");
        std::fs::write(&file, "").unwrap();
        let empty = Config::load_or_not_set_up(&options).unwrap().config.faults;
        assert_eq!(empty.iter().map(|fault| fault.part).collect::<Vec<_>>(), [Part::NoDecoder]);
    }
}
