//! What the user of the service may read, whoever runs the check. Root may read everything, so a
//! check by root proves nothing.
//!
//! The rights are computed from the owner, the group and the mode of a file and of the directories
//! above it. What a file system or a security module forbids in addition is not seen here.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories in which the unit may be. The first one that has it counts.
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
pub(super) const UNIT: &str = "passbridge.service";

/// The user under which the service runs.
pub(crate) struct ServiceUser {
    pub(super) name: String,
    /// The user's number. `None` if the user exists only while the service runs (DynamicUser), so
    /// that no file belongs to it.
    uid: Option<u32>,
    /// The number of the user's own group. `None` like `uid`.
    pub(crate) gid: Option<u32>,
    groups: BTreeSet<u32>,
    /// Files that systemd, as root, passes to the service.
    handed: Vec<PathBuf>,
}

impl ServiceUser {
    /// The user of the unit that is installed here, if there is one.
    pub(crate) fn of_the_unit() -> Option<Self> {
        let unit = UNITS.iter().find_map(|dir| std::fs::read_to_string(Path::new(dir).join(UNIT)).ok())?;
        let account = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        Some(Self::of(&unit, &account("/etc/passwd"), &account("/etc/group")))
    }

    /// The user with this name, as if the service ran under it.
    pub(super) fn named(name: &str) -> Self {
        let account = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        Self::of(&format!("User={name}\n"), &account("/etc/passwd"), &account("/etc/group"))
    }

    /// Finds the user in `unit`, `passwd` and `group`, which are the texts of the files.
    fn of(unit: &str, passwd: &str, group: &str) -> Self {
        let values = |key: &str| -> Vec<String> {
            let lines = unit.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            lines.map(|value| value.trim().to_owned()).collect()
        };
        let name = values("User").pop().unwrap_or_else(|| "root".to_owned());
        let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let account = passwd.lines().map(fields).find(|fields| fields.first() == Some(&name) && fields.len() > 3);
        let number = |fields: &[String], at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok());
        let uid = account.as_deref().and_then(|fields| number(fields, 2));
        let gid = account.as_deref().and_then(|fields| number(fields, 3));
        let more: Vec<String> = values("SupplementaryGroups")
            .iter()
            .flat_map(|names| names.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let own = values("Group").pop();
        let of_group = |fields: &Vec<String>| {
            let members = fields.get(3).map(String::as_str).unwrap_or_default();
            let named = fields.first().is_some_and(|it| more.contains(it) || Some(it) == own.as_ref());
            named || members.split(',').any(|member| member.trim() == name)
        };
        let mut groups: BTreeSet<u32> =
            group.lines().map(fields).filter(of_group).filter_map(|fields| number(&fields, 2)).collect();
        groups.extend(gid);
        let credentials = values("LoadCredential");
        let handed = credentials.iter().filter_map(|text| Some(PathBuf::from(text.split_once(':')?.1))).collect();
        Self { name, uid, gid, groups, handed }
    }

    /// Whether systemd passes this file to the service, whatever its rights are.
    pub(crate) fn is_handed(&self, path: &Path) -> bool {
        self.handed.iter().any(|handed| handed == path)
    }

    /// Whether the user may read this file.
    ///
    /// # Errors
    /// Which file or directory forbids it, and what to do.
    pub(super) fn may_read(&self, path: &Path) -> Result<(), String> {
        self.may(path, 4)
    }

    /// Whether the user may read and write this device.
    ///
    /// # Errors
    /// Like [`ServiceUser::may_read`].
    pub(super) fn may_use(&self, path: &Path) -> Result<(), String> {
        self.may(path, 6)
    }

    fn may(&self, path: &Path, wanted: u32) -> Result<(), String> {
        let real = std::fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
        for dir in real.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            self.one(dir, 1).map_err(|()| {
                let dir = dir.display();
                format!(
                    "user {} may not enter {dir}, so the service cannot read what is in it: chmod o+x {dir}",
                    self.name
                )
            })?;
        }
        self.one(&real, wanted).map_err(|()| {
            let (path, name) = (path.display(), &self.name);
            match self.uid {
                Some(_) if wanted == 4 => format!("user {name} may not read {path}: chown root:{name} {path} && chmod 640 {path}"),
                _ if wanted == 4 => format!(
                    "the service may not read {path}: its user {name} exists only while it runs (DynamicUser). Hand the file to \
                     it with LoadCredential= in the unit, or make it readable for all"
                ),
                _ => format!("user {name} may not use {path}: it must be in the group that owns it (dialout)"),
            }
        })
    }

    fn one(&self, path: &Path, wanted: u32) -> Result<(), ()> {
        let file = std::fs::metadata(path).map_err(|_| ())?;
        let shift = match self.uid {
            Some(0) => return Ok(()),
            Some(uid) if uid == file.uid() => 6,
            _ if self.groups.contains(&file.gid()) => 3,
            _ => 0,
        };
        if file.mode() >> shift & wanted == wanted { Ok(()) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const UNIT_TEXT: &str = include_str!("../../../systemd/passbridge.service");

    #[test]
    fn the_user_of_the_unit_is_known_with_its_groups_and_the_files_that_systemd_hands_it() {
        let passwd = "root:x:0:0::/root:/bin/sh\npassbridge:x:990:991::/var/lib/passbridge:/usr/sbin/nologin\n";
        let group = "root:x:0:\ndialout:x:20:timer\npassbridge:x:991:\nmedia:x:77:timer,passbridge\n";
        let user = ServiceUser::of(UNIT_TEXT, passwd, group);
        assert_eq!((user.name.as_str(), user.uid), ("passbridge", Some(990)));
        assert_eq!(user.groups, BTreeSet::from([20, 77, 991]));
        assert!(
            user.is_handed(Path::new("/etc/passbridge/api_key")) && !user.is_handed(Path::new("/etc/passbridge/other"))
        );
        let dynamic = ServiceUser::of(UNIT_TEXT, "root:x:0:0::/root:/bin/sh\n", "dialout:x:20:\n");
        assert_eq!((dynamic.uid, dynamic.groups), (None, BTreeSet::from([20])));
    }

    #[test]
    fn a_file_that_root_may_read_and_the_service_may_not_is_told_with_what_forbids_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bibs.csv");
        std::fs::write(&file, "chip,bib\n").unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let me = std::fs::metadata(&file).unwrap();
        let stranger = ServiceUser {
            name: "it".into(),
            uid: Some(me.uid() + 1),
            gid: None,
            groups: BTreeSet::new(),
            handed: vec![],
        };
        mode(&file, 0o644);
        mode(dir.path(), 0o700);
        let told = stranger.may_read(&file).unwrap_err();
        assert!(told.contains("may not enter") && told.contains(&dir.path().display().to_string()), "{told}");
        mode(dir.path(), 0o755);
        assert_eq!(stranger.may_read(&file), Ok(()));
        mode(&file, 0o640);
        let told = stranger.may_read(&file).unwrap_err();
        assert!(told.contains("user it may not read") && told.contains("chmod 640"), "{told}");
        let of_group = ServiceUser { groups: BTreeSet::from([me.gid()]), ..stranger };
        assert_eq!(of_group.may_read(&file), Ok(()));
        assert!(of_group.may_use(&file).unwrap_err().contains("dialout"));
        mode(&file, 0o660);
        assert_eq!(of_group.may_use(&file), Ok(()));
        let dynamic = ServiceUser { uid: None, groups: BTreeSet::new(), ..of_group };
        assert!(dynamic.may_read(&file).unwrap_err().contains("LoadCredential="));
        assert!(dynamic.may_read(&dir.path().join("none")).unwrap_err().contains("none"));
    }
}
