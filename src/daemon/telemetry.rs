//! What the machine tells of itself: uptime, kernel, model, temperature, batteries. It is shown on the
//! status and in the metrics, and sent nowhere.
//!
//! Must hold:
//! * **A value that the kernel does not tell is unknown, and never an error.** A file that is
//!   missing, empty, unreadable or full of nonsense gives no value. So does a file whose driver
//!   hangs: each file is read by a thread of its own, which gets [`PATIENCE`], and a file is not
//!   read again while its thread hangs.
//! * **Nothing waits for it**: neither a read, nor the status, nor the stop of the box.
//!
//! The unit of systemd hides `/proc` except for processes, so everything is from `/sys` or a system
//! call. The voltage of a Raspberry Pi is watched by the kernel's driver `raspberrypi-hwmon`, which
//! asks the firmware every two seconds. Older kernels of Raspberry Pi OS show the flags of the
//! firmware as a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::system::uname;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::failure::Failure;
use crate::status::{BatteryStatus, Board, ChargeState, MachineStatus, PpsStatus, ProblemCode, TimeSources};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// How long one file may take.
const PATIENCE: Duration = Duration::from_millis(200);
/// Files that may hang at once. With more, nothing is read until one of them is back.
const HANGING: usize = 4;
/// Most bytes that are read of a file.
const FILE_MAX: u64 = 256;
/// Most entries of a folder that are looked at.
const ENTRIES: usize = 64;

/// A battery of this charge or less is low while it is discharged.
const LOW_PERCENT: u8 = 20;
/// It is low until its charge is this, or until it is discharged no more.
const LOW_UNTIL_PERCENT: u8 = 25;
/// A box is hot from this temperature on. A Raspberry Pi slows itself down from 80 °C on.
const HOT_C: i32 = 80;
/// It is hot until it is this cool.
const HOT_UNTIL_C: i32 = 75;

/// Too little voltage is shown for this many looks after the last one that found it. It comes and
/// goes with what the box does, and a message that does the same would say less.
const LOW_VOLTAGE_LOOKS: u32 = 6;

/// Where the kernel says which machine this is, below `/`: a board with a device tree, or a PC.
pub(crate) const MODELS: [&str; 2] = ["sys/firmware/devicetree/base/model", "sys/class/dmi/id/product_name"];
/// Where it puts what it measures.
const THERMAL: &str = "sys/class/thermal";
const POWER: &str = "sys/class/power_supply";
const SENSORS: &str = "sys/class/hwmon";
/// Where it puts the inputs for a pulse each second.
const PPS: &str = "sys/class/pps";
/// Where gpsd, or systemd for it, listens for commands.
const GPSD_SOCKET: &str = "run/gpsd.sock";
/// Who listens at which port. Under `self`, because the service sees only processes in `/proc`.
const TCP_TABLES: [&str; 2] = ["proc/self/net/tcp", "proc/self/net/tcp6"];
/// The file with which systemd's time service records that the clock was set from the network.
const SET_FROM_NETWORK: &str = "run/systemd/timesync/synchronized";
/// The sensor that watches the voltage of a Raspberry Pi, and the file with its alarm.
const PI_VOLTAGE: (&str, &str) = ("rpi_volt", "in0_lcrit_alarm");
/// The flags of the firmware as a hexadecimal number, where an older kernel shows them.
const PI_FLAGS: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";
/// The voltage is too low now.
const LOW_NOW: u32 = 1;
/// The voltage was too low since the machine was switched on.
const LOW_SINCE: u32 = 1 << 16;

/// Looks at the machine whose files are below `root` (`/`), now and every [`EVERY`], and shows it on
/// the board.
pub(super) async fn watch(root: PathBuf, board: Board, stop: CancellationToken) -> Result<(), Failure> {
    let mut machine = Machine::new(root);
    let mut alarms = Alarms::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let look = tokio::task::spawn_blocking(move || {
            let status = machine.look();
            (machine, status)
        });
        let Ok((back, status)) = look.await else { return Ok(()) }; // the program ends
        machine = back;
        alarms.tell(&status, &board);
        board.machine(status);
    }
    Ok(())
}

/// The files of the machine.
struct Machine {
    root: PathBuf,
    /// Files that hang, and the threads that hang with them.
    hanging: BTreeMap<PathBuf, JoinHandle<()>>,
    /// The flags of the firmware said before that the voltage was too low once.
    was_low: bool,
    /// What the file of each PPS input said at the last look.
    pulses: BTreeMap<String, Option<String>>,
}

/// Whether a line of a TCP table is that of gpsd: local address `…:0B83` (2947), state `0A` (it listens).
fn is_gpsd(line: &str) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next(), fields.nth(1));
    local.is_some_and(|local| local.ends_with(":0B83")) && state == Some("0A")
}

impl Machine {
    fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), hanging: BTreeMap::new(), was_low: false, pulses: BTreeMap::new() }
    }

    /// Reads everything anew. It takes at most [`PATIENCE`] for each of [`HANGING`] files, and a
    /// moment for the others.
    fn look(&mut self) -> MachineStatus {
        self.hanging.retain(|_, thread| !thread.is_finished());
        let name = uname();
        let mut status = MachineStatus {
            uptime_s: clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs(),
            kernel: name.release().to_string_lossy().into_owned(),
            architecture: name.machine().to_string_lossy().into_owned(),
            model: MODELS.iter().find_map(|place| self.text(Path::new(place)).filter(|model| is_name(model))),
            temperature_c: self.temperature(),
            mains_online: None,
            under_voltage: self.under_voltage(),
            batteries: Vec::new(),
            time: self.time_sources(),
        };
        for supply in self.names(POWER) {
            self.supply(&supply, &mut status);
        }
        status
    }

    /// The temperature of the hottest zone, in °C.
    fn temperature(&mut self) -> Option<i32> {
        let zones = self.names(THERMAL).into_iter().filter(|name| name.starts_with("thermal_zone"));
        let zones: Vec<String> = zones.collect();
        let degrees = zones.iter().filter_map(|zone| {
            let millis: i32 = self.text(&Path::new(THERMAL).join(zone).join("temp"))?.parse().ok()?;
            // A sensor that is off shows 0 K, or the largest number.
            (-40_000..=150_000).contains(&millis).then(|| (f64::from(millis) / 1e3).round() as i32)
        });
        degrees.max()
    }

    /// Whether the voltage is too low, or was so since the last look.
    fn under_voltage(&mut self) -> Option<bool> {
        for sensor in self.names(SENSORS) {
            let folder = Path::new(SENSORS).join(sensor);
            if self.text(&folder.join("name")).as_deref() == Some(PI_VOLTAGE.0) {
                return match self.text(&folder.join(PI_VOLTAGE.1))?.as_str() {
                    "0" => Some(false),
                    "1" => Some(true),
                    _ => None,
                };
            }
        }
        let flags = self.text(Path::new(PI_FLAGS))?;
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let once = flags & LOW_SINCE != 0;
        let new = once && !self.was_low;
        self.was_low = once;
        Some(flags & LOW_NOW != 0 || new)
    }

    fn supply(&mut self, name: &str, status: &mut MachineStatus) {
        let folder = Path::new(POWER).join(name);
        let mut value = |file: &str| self.text(&folder.join(file));
        match value("type").as_deref() {
            // The battery of a mouse is none of the box.
            Some("Battery" | "UPS") if value("scope").as_deref() != Some("Device") => {
                let state = value("status").and_then(|word| match &*word {
                    "Charging" => Some(ChargeState::Charging),
                    "Discharging" => Some(ChargeState::Discharging),
                    "Not charging" => Some(ChargeState::NotCharging),
                    "Full" => Some(ChargeState::Full),
                    _ => None,
                });
                let percent =
                    value("capacity").and_then(|number| number.parse().ok()).filter(|percent| *percent <= 100);
                status.batteries.push(BatteryStatus { name: name.to_owned(), percent, state });
            }
            Some(kind) if kind == "Mains" || kind.starts_with("USB") => {
                let online = match value("online").as_deref() {
                    Some("0") => Some(false),
                    Some("1" | "2") => Some(true), // 2: with a fixed voltage
                    _ => None,
                };
                status.mains_online = status.mains_online.max(online); // one that gives power is enough
            }
            _ => {}
        }
    }

    /// Where the machine can get the time without a network. gpsd is not asked anything: a connection
    /// would make systemd start it.
    fn time_sources(&mut self) -> Option<TimeSources> {
        let pps: Vec<PpsStatus> = self.names(PPS).into_iter().map(|name| self.pps(name)).collect();
        let gpsd = self.root.join(GPSD_SOCKET).exists() || TCP_TABLES.iter().any(|table| self.listens(table));
        let from_network = self.root.join(SET_FROM_NETWORK).exists();
        (gpsd || !pps.is_empty()).then_some(TimeSources { pps, gpsd, from_network })
    }

    /// A pulse changes the file with the time and the number of the last one.
    fn pps(&mut self, name: String) -> PpsStatus {
        let last = self.text(&Path::new(PPS).join(&name).join("assert"));
        let before = std::mem::replace(self.pulses.entry(name.clone()).or_default(), last.clone());
        PpsStatus { name, pulses: before.zip(last).map(|(before, last)| before != last) }
    }

    /// Whether gpsd listens, by this table of the kernel.
    fn listens(&mut self, table: &str) -> bool {
        let path = self.root.join(table);
        let text = self.in_time(path.clone(), move || std::fs::read_to_string(path).ok());
        text.is_some_and(|text| text.lines().any(is_gpsd))
    }

    /// The names in a folder, in order.
    fn names(&mut self, folder: &str) -> Vec<String> {
        let folder = self.root.join(folder);
        let listed = self.in_time(folder.clone(), move || {
            let entries = std::fs::read_dir(folder).ok()?.take(ENTRIES);
            Some(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
        });
        let mut names: Vec<String> = listed.unwrap_or_default();
        names.sort();
        names
    }

    /// The first line of a file, without white space at its ends. `None`: there is none.
    fn text(&mut self, file: &Path) -> Option<String> {
        let path = self.root.join(file);
        let bytes = self.in_time(path.clone(), move || {
            let mut bytes = Vec::new();
            File::open(path).ok()?.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        })?;
        // The device tree ends its texts with a zero byte.
        let line = bytes.split(|byte| matches!(byte, 0 | b'\n')).next()?;
        let line = std::str::from_utf8(line).ok()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// Runs `read` in a thread of its own, and waits [`PATIENCE`] for it.
    fn in_time<T: Send + 'static>(
        &mut self,
        path: PathBuf,
        read: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        if self.hanging.len() >= HANGING || self.hanging.contains_key(&path) {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let reading = move || drop(answer.send(read())); // the one who asked may have gone
        let thread = Builder::new().name("machine".to_owned()).spawn(reading).ok()?;
        if let Ok(value) = answered.recv_timeout(PATIENCE) {
            return value;
        }
        tracing::debug!(path = %path.display(), "this file does not answer");
        self.hanging.insert(path, thread);
        None
    }
}

/// Whether a text can be shown as a name.
fn is_name(text: &str) -> bool {
    text.chars().all(|c| !c.is_control())
}

/// Which alarms are shown. A value at the limit must not raise and clear a problem again and again.
#[derive(Default)]
struct Alarms {
    hot: bool,
    low: BTreeSet<String>,
    /// For how many more looks too little voltage is shown.
    low_voltage: u32,
}

impl Alarms {
    /// Raises and clears the problems of the machine. A value that is unknown changes nothing; a
    /// battery that is gone is not low.
    fn tell(&mut self, machine: &MachineStatus, board: &Board) {
        match machine.temperature_c {
            Some(degrees) if degrees >= HOT_C || (self.hot && degrees > HOT_UNTIL_C) => {
                self.hot = true;
                let message = format!(
                    "this box is hot ({degrees} °C): put it into the shade and let air reach it. It becomes slower, and may \
                     switch itself off"
                );
                board.raise(ProblemCode::BoxHot, "", message);
            }
            Some(_) if self.hot => {
                self.hot = false;
                board.clear(ProblemCode::BoxHot, "");
            }
            _ => {}
        }
        match machine.under_voltage {
            Some(true) => {
                self.low_voltage = LOW_VOLTAGE_LOOKS;
                let message = "the power supply of this box gives too little voltage: use the supply of its maker and a short \
                               cable. The box may restart at any moment";
                board.raise(ProblemCode::UnderVoltage, "", message);
            }
            Some(false) if self.low_voltage > 0 => {
                self.low_voltage -= 1;
                if self.low_voltage == 0 {
                    board.clear(ProblemCode::UnderVoltage, "");
                }
            }
            _ => {}
        }
        let mut low = BTreeSet::new();
        for BatteryStatus { name, percent, state } in &machine.batteries {
            let was_low = self.low.contains(name);
            let limit = if was_low { LOW_UNTIL_PERCENT - 1 } else { LOW_PERCENT };
            let is_low = match (percent, state) {
                (_, Some(state)) if *state != ChargeState::Discharging => false,
                (Some(percent), Some(_)) => *percent <= limit,
                _ => was_low,
            };
            if !is_low {
                continue;
            }
            low.insert(name.clone());
            if let Some(percent) = percent {
                let message = format!(
                    "the battery {name} of this box has {percent} % and nothing charges it: connect the box to power before \
                     it switches itself off"
                );
                board.raise(ProblemCode::BoxBatteryLow, name, message);
            }
        }
        for over in self.low.difference(&low) {
            board.clear(ProblemCode::BoxBatteryLow, over);
        }
        self.low = low;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    use super::*;

    /// A machine whose files are in a folder.
    struct Folder {
        dir: TempDir,
        machine: Machine,
    }

    impl Folder {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let folder = Self { machine: Machine::new(dir.path()), dir };
            files.iter().for_each(|(place, text)| folder.put(place, text));
            folder
        }

        fn path(&self, place: &str) -> PathBuf {
            let path = self.dir.path().join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        fn put(&self, place: &str, text: &str) {
            fs::write(self.path(place), text).unwrap();
        }

        /// A file that hangs: a pipe into which nobody writes.
        fn hang(&self, place: &str) -> PathBuf {
            let path = self.path(place);
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            path
        }
    }

    const PI: &[(&str, &str)] = &[
        ("sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
        ("sys/class/thermal/thermal_zone0/temp", "51608\n"),
        ("sys/class/thermal/thermal_zone1/temp", "48200\n"),
        ("sys/class/thermal/cooling_device0/temp", "99000\n"),
        ("sys/class/power_supply/ups/type", "UPS\n"),
        ("sys/class/power_supply/ups/capacity", "64\n"),
        ("sys/class/power_supply/ups/status", "Discharging\n"),
        ("sys/class/power_supply/ac/type", "Mains\n"),
        ("sys/class/power_supply/ac/online", "0\n"),
    ];

    fn ups(percent: Option<u8>, state: Option<ChargeState>) -> BatteryStatus {
        BatteryStatus { name: "ups".to_owned(), percent, state }
    }

    #[test]
    fn what_the_kernel_tells_is_read() {
        let mut folder = Folder::new(PI);
        let status = folder.machine.look();
        assert_eq!(status.model.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        assert_eq!(status.temperature_c, Some(52), "of the hottest zone");
        assert_eq!(status.batteries, [ups(Some(64), Some(ChargeState::Discharging))]);
        assert_eq!(status.mains_online, Some(false));
        assert!(!status.kernel.is_empty() && !status.architecture.is_empty());
        folder.put("sys/class/power_supply/usb/type", "USB_C\n");
        folder.put("sys/class/power_supply/usb/online", "1\n");
        folder.put("sys/class/power_supply/ups/status", "Charging\n");
        let status = folder.machine.look();
        assert_eq!(status.mains_online, Some(true), "one supply is enough");
        assert_eq!(status.batteries, [ups(Some(64), Some(ChargeState::Charging))]);
    }

    #[test]
    fn what_is_missing_empty_or_nonsense_is_unknown_and_no_error() {
        let known = |status: MachineStatus| (status.model, status.temperature_c, status.batteries, status.mains_online);
        assert_eq!(known(Folder::new(&[]).machine.look()), (None, None, Vec::new(), None));
        let mut folder = Folder::new(&[
            ("sys/firmware/devicetree/base/model", "\0"),
            ("sys/class/dmi/id/product_name", "a\u{1b}[2J\n"),
            ("sys/class/thermal/thermal_zone0/temp", "-274000\n"),
            ("sys/class/thermal/thermal_zone1/temp", "hot\n"),
            ("sys/class/thermal/thermal_zone2/temp", ""),
            ("sys/class/power_supply/ups/type", "UPS"),
            ("sys/class/power_supply/ups/capacity", "4294967295\n"),
            ("sys/class/power_supply/ups/status", "Unknown\n"),
            ("sys/class/power_supply/ac/type", "Mains\n"),
            ("sys/class/power_supply/mouse/type", "Battery\n"),
            ("sys/class/power_supply/mouse/scope", "Device\n"),
            ("sys/class/power_supply/mouse/capacity", "7\n"),
            ("sys/class/power_supply/odd/type", "\u{fffd}\n"),
        ]);
        fs::write(folder.path("sys/class/power_supply/ac/online"), b"\xff\xfe").unwrap();
        fs::create_dir_all(folder.path("sys/class/power_supply/folder/type").join("in")).unwrap();
        assert_eq!(known(folder.machine.look()), (None, None, vec![ups(None, None)], None));
        folder.put("sys/class/power_supply/ups/capacity", "101");
        assert_eq!(folder.machine.look().batteries, [ups(None, None)]);
    }

    #[test]
    fn a_pulse_each_second_and_gpsd_are_sources_of_time() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue\n\
                   0: 0100007F:0B83 0100007F:C350 01 00000000:00000000\n";
        let mut folder = Folder::new(&[("proc/self/net/tcp", tcp)]);
        assert_eq!(folder.machine.look().time, None, "a connection is no listener");
        folder.put("proc/self/net/tcp6", &tcp.replace("0100007F:C350 01", "00000000:0000 0A"));
        let time = folder.machine.look().time.unwrap();
        assert_eq!((time.gpsd, time.from_network, time.pps.len()), (true, false, 0));
        let mut pulses = |assert: &str| {
            folder.put("sys/class/pps/pps0/assert", assert);
            folder.machine.look().time.unwrap().pps
        };
        let pps0 = |pulses| [PpsStatus { name: "pps0".to_owned(), pulses }];
        assert_eq!(pulses("1712345678.000000123#7\n"), pps0(None));
        assert_eq!(pulses("1712345688.000000119#17\n"), pps0(Some(true)));
        assert_eq!(pulses("1712345688.000000119#17\n"), pps0(Some(false)));
        assert_eq!(pulses(""), pps0(None), "an input that takes only the other edge");
        folder.put("run/systemd/timesync/synchronized", "");
        assert!(folder.machine.look().time.unwrap().from_network);
    }

    #[test]
    fn too_little_voltage_of_a_pi_is_found_by_its_sensor_or_by_the_flags_of_its_firmware() {
        let mut folder = Folder::new(&[
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n"),
        ]);
        assert_eq!(folder.machine.look().under_voltage, None, "this sensor is another one");
        folder.put("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        for (alarm, low) in [("0\n", Some(false)), ("1\n", Some(true)), ("", None), ("x", None)] {
            folder.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm);
            assert_eq!(folder.machine.look().under_voltage, low, "{alarm:?}");
        }
        let mut older = Folder::new(&[]);
        for (flags, low) in [
            ("0\n", Some(false)),
            ("50005\n", Some(true)),
            ("0x50000\n", Some(false)),
            ("50004\n", Some(false)),
            ("e0008\n", Some(false)),
            ("0\n", Some(false)),
            ("50000\n", Some(true)),
            ("nonsense\n", None),
        ] {
            older.put("sys/devices/platform/soc/soc:firmware/get_throttled", flags);
            assert_eq!(older.machine.look().under_voltage, low, "{flags:?}");
        }
    }

    #[test]
    fn too_little_voltage_is_a_problem_until_it_was_right_for_a_minute() {
        let (board, mut alarms) = (Board::new("finish"), Alarms::default());
        let mut shown = |under_voltage| {
            alarms.tell(&MachineStatus { under_voltage, ..MachineStatus::default() }, &board);
            board.snapshot().problems.iter().any(|problem| problem.code == "under_voltage")
        };
        assert!(!shown(None) && !shown(Some(false)));
        assert!(shown(Some(true)) && shown(None));
        for _ in 0..LOW_VOLTAGE_LOOKS - 1 {
            assert!(shown(Some(false)), "it comes and goes");
        }
        assert!(shown(Some(true)), "it begins anew");
        for _ in 0..LOW_VOLTAGE_LOOKS - 1 {
            assert!(shown(Some(false)));
        }
        assert!(!shown(Some(false)));
    }

    #[test]
    fn a_file_that_hangs_is_unknown_until_it_answers_and_the_others_are_read() {
        let mut folder = Folder::new(PI);
        fs::remove_file(folder.path("sys/class/power_supply/ups/capacity")).unwrap();
        let pipe = folder.hang("sys/class/power_supply/ups/capacity");
        for _ in 0..2 {
            let status = folder.machine.look();
            assert_eq!(status.batteries, [ups(None, Some(ChargeState::Discharging))]);
            assert_eq!((status.temperature_c, status.mains_online), (Some(52), Some(false)));
            assert_eq!(folder.machine.hanging.len(), 1, "it is not read again meanwhile");
        }
        fs::write(&pipe, "63\n").unwrap(); // the thread that hangs takes this
        fs::remove_file(&pipe).unwrap();
        fs::write(&pipe, "62\n").unwrap();
        let thread = folder.machine.hanging.pop_first().unwrap().1;
        thread.join().unwrap();
        assert_eq!(folder.machine.look().batteries, [ups(Some(62), Some(ChargeState::Discharging))]);
    }

    #[tokio::test]
    async fn a_file_that_hangs_holds_up_neither_the_status_nor_the_stop() {
        let folder = Folder::new(PI);
        folder.hang("sys/class/thermal/thermal_zone2/temp");
        let (board, stop) = (Board::new("finish"), CancellationToken::new());
        let mut changed = board.changed();
        let watching = tokio::spawn(watch(folder.dir.path().to_owned(), board.clone(), stop.clone()));
        assert_eq!(board.snapshot().machine, None, "the status does not wait for it");
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, changed.changed()).await.unwrap().unwrap();
        assert_eq!(board.snapshot().machine.unwrap().temperature_c, Some(52));
        stop.cancel();
        tokio::time::timeout(limit, watching).await.unwrap().unwrap().unwrap();
    }

    #[test]
    fn many_files_that_hang_cost_no_more_threads_than_a_few() {
        let mut folder = Folder::new(&[]);
        let pipes: Vec<PathBuf> =
            (0..9).map(|zone| folder.hang(&format!("sys/class/thermal/thermal_zone{zone}/temp"))).collect();
        assert_eq!(folder.machine.look().temperature_c, None);
        assert_eq!(folder.machine.hanging.len(), HANGING);
        folder.put("sys/class/dmi/id/product_name", "Box");
        assert_eq!(folder.machine.look().model, None, "nothing is read until one of them is back");
        let first = folder.machine.hanging.keys().next().unwrap().clone();
        fs::write(&first, "40000\n").unwrap();
        folder.machine.hanging.remove(&first).unwrap().join().unwrap();
        assert_eq!(folder.machine.look().model.as_deref(), Some("Box"));
        drop(pipes); // the threads that hang end with the process
    }

    #[test]
    fn a_low_battery_and_a_hot_box_are_problems_and_a_value_at_the_limit_is_not_told_again_and_again() {
        let board = Board::new("finish");
        let mut alarms = Alarms::default();
        let mut shown = |temperature_c, battery: Option<BatteryStatus>| {
            let batteries = battery.into_iter().collect();
            alarms.tell(&MachineStatus { temperature_c, batteries, ..MachineStatus::default() }, &board);
            let codes: Vec<String> = board.snapshot().problems.into_iter().map(|problem| problem.code).collect();
            codes.join(" ")
        };
        for (degrees, hot) in [
            (Some(79), ""),
            (Some(80), "box_hot"),
            (Some(76), "box_hot"),
            (None, "box_hot"),
            (Some(75), ""),
            (Some(79), ""),
        ] {
            assert_eq!(shown(degrees, None), hot, "{degrees:?}");
        }
        let (empties, charges) = (Some(ChargeState::Discharging), Some(ChargeState::Charging));
        for (percent, state, low) in [
            (Some(21), empties, ""),
            (Some(5), charges, ""),
            (Some(5), None, ""),
            (Some(20), empties, "box_battery_low"),
            (Some(24), empties, "box_battery_low"),
            (None, empties, "box_battery_low"),
            (None, None, "box_battery_low"),
            (Some(25), empties, ""),
            (Some(21), empties, ""),
            (Some(20), empties, "box_battery_low"),
            (Some(20), charges, ""),
            (Some(20), empties, "box_battery_low"),
        ] {
            assert_eq!(shown(None, Some(ups(percent, state))), low, "{percent:?} {state:?}");
        }
        assert_eq!(shown(None, None), "", "it was taken away");
    }
}
