// Times. The box tells its two clocks with each event, and the monotonic clock of the browser goes on from there. So a wrong
// clock of the phone changes nothing on the page.

let uptime = null; // ms since the start of the box's program, at `at`
let wall = null; // its wall clock, ms since 1970, at `at`
let ahead = 0; // its zone, in seconds ahead of UTC
let at = 0;
let frozen = false;

export function beat(event) {
  [uptime, wall, ahead, at, frozen] = [event.t, event.w, event.z, performance.now(), false];
  comparePhone();
}

// Stops the seconds. Returns the time of the last news, by the clock of the box.
export function freeze() {
  frozen = true;
  return wall === null ? document.getElementById("now").textContent : timeOfDay(wall);
}

const two = (number) => String(number).padStart(2, "0");

export function timeOfDay(ms) {
  const there = new Date(ms + ahead * 1000);
  return `${two(there.getUTCHours())}:${two(there.getUTCMinutes())}:${two(there.getUTCSeconds())}`;
}

// 59 s, 59 min, 1 h 04 min, 2 d 3 h: as the box writes it.
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Writes the time and all ages. While there is no news nothing is written over: the texts are those of the last news.
export function tick() {
  if (uptime === null || frozen) return;
  const since = performance.now() - at;
  set(document.getElementById("now"), timeOfDay(wall + since));
  const seconds = (uptime + since) / 1000;
  for (const node of document.querySelectorAll("[data-at]")) {
    set(node, age(seconds - Number(node.dataset.at)) + ("ago" in node.dataset ? " ago" : ""));
  }
}

// A hint, and never a problem: whether the phone has the same time as the box.
function comparePhone() {
  const line = document.getElementById("phone");
  if (!line) return;
  const off = Math.abs(Date.now() - wall);
  const mark = off < 2000 ? "yes" : "warn";
  const device = innerWidth < 992 ? "This phone" : "This computer";
  const text = off < 2000 ? `${device} agrees within 2 s` : `${device} and the box differ by ${age(off / 1000)}`;
  line.hidden = false;
  set(line.lastElementChild, text);
  line.firstElementChild.className = `t-${mark}`;
  line.querySelector("use").setAttribute("href", `#${mark}`);
}
