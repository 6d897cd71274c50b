// Sound: two falling tones while something must be done, one while the cloud lacks reads. Off until somebody switches it on,
// as a browser wants. A locked phone makes no sound, and the page says so beside the switch.

const TWICE = ["cannot-keep", "not-reading", "time-wrong", "no-news"];
const ONCE = ["not-uploading"];
const AGAIN = 60_000; // ms between two signals
const QUIET = 600_000; // ms of "Quiet for 10 min"

let context = null;
let state = "";
let last = -Infinity;
let quietUntil = 0;

function tone(from, to, start, length) {
  const [wave, volume] = [context.createOscillator(), context.createGain()];
  const begin = context.currentTime + start;
  wave.frequency.setValueAtTime(from, begin);
  wave.frequency.exponentialRampToValueAtTime(to, begin + length);
  volume.gain.setValueAtTime(0.0001, begin);
  volume.gain.exponentialRampToValueAtTime(0.6, begin + 0.03);
  volume.gain.exponentialRampToValueAtTime(0.0001, begin + length);
  wave.connect(volume).connect(context.destination);
  wave.start(begin);
  wave.stop(begin + length);
}

function signal() {
  const now = performance.now();
  const count = TWICE.includes(state) ? 2 : ONCE.includes(state) ? 1 : 0;
  if (!context || count === 0 || now < quietUntil || now - last < AGAIN) return;
  last = now;
  for (let at = 0; at < count; at += 1) tone(880, 440, at * 0.5, 0.4);
}

export function hear() {
  const [button, quiet, note] = ["sound", "quiet", "sound-note"].map((id) => document.getElementById(id));
  button.onclick = async () => {
    if (context) {
      await context.close();
      context = null;
    } else {
      const Context = window.AudioContext || window.webkitAudioContext;
      if (!Context) {
        note.textContent = "This browser makes no sound.";
        note.hidden = false;
        return;
      }
      context = new Context();
      await context.resume();
      tone(660, 660, 0, 0.15); // so that somebody hears that it works
      last = -Infinity;
      quietUntil = 0;
    }
    button.setAttribute("aria-pressed", String(context !== null));
    button.textContent = context ? "Sound is on" : "Sound is off";
    quiet.hidden = note.hidden = !context;
  };
  quiet.onclick = () => {
    quietUntil = performance.now() + QUIET;
    quiet.textContent = "Quiet for 10 min: on";
    setTimeout(() => (quiet.textContent = "Quiet for 10 min"), QUIET);
  };
  document.addEventListener("state", (event) => {
    if (event.detail !== state) last = -Infinity; // another state is told at once
    state = event.detail;
    signal();
  });
  state = document.getElementById("state").dataset.state;
  setInterval(signal, 1000);
}
