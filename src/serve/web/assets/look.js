// How the page looks: the head while scrolling, more light, the period of the plots, and no news.
import { age } from "./clock.js";

const $ = (id) => document.getElementById(id);

// Sun: black on white, for a display in bright light. The choice stays on this device.
export function setUpSun() {
  const button = $("sun");
  const remembered = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("theme");
      localStorage.setItem("theme", value);
    } catch {
      return null; // a private window may refuse
    }
  };
  const show = (on) => {
    if (on) document.documentElement.dataset.theme = "sun";
    else delete document.documentElement.dataset.theme;
    if (button) button.setAttribute("aria-pressed", String(on));
  };
  show(remembered() === "sun");
  if (button) button.onclick = () => {
    const on = document.documentElement.dataset.theme !== "sun";
    show(on);
    remembered(on ? "sun" : "");
  };
}

export function setUpSpan() {
  for (const radio of document.querySelectorAll("input[name=span]")) {
    radio.onchange = () => {
      $("plots-10m").hidden = radio.value !== "10m";
      $("plots-6h").hidden = radio.value !== "6h";
      $("plots-h").textContent = radio.value === "6h" ? "The last 6 hours" : "The last 10 minutes";
    };
  }
  if (innerWidth >= 992) $("clocks").open = true;
}

// While the state is out of sight, the head shows it instead of the name.
export function watchScroll() {
  const check = () => {
    const gone = $("state").getBoundingClientRect().bottom < 56;
    $("mini").hidden = !gone;
    document.body.classList.toggle("scrolled", gone);
  };
  addEventListener("scroll", check, { passive: true });
  check();
}

let told = { subject: $("state") && $("state").dataset.subject, at: -Infinity };
let waits = null;

// A screen reader is told when the state or its subject changes, at most every ten seconds.
function tell(subject, text) {
  if (subject === told.subject) return;
  clearTimeout(waits);
  waits = setTimeout(() => {
    told = { subject, at: performance.now() };
    $("live").textContent = text;
  }, Math.max(0, 10000 - (performance.now() - told.at)));
}

function showWord(id, look, word) {
  const mini = $("mini");
  mini.dataset.look = look;
  mini.querySelector("use").setAttribute("href", `#s-${id}`);
  mini.querySelector("span").textContent = word;
  document.title = `${word} · ${document.body.dataset.name}`;
  const icon = $("icon");
  const href = `/icon/${id}.svg`;
  if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
}

// The state of the box is shown, and the head, the title and the icon go with it.
export function showState(wasLost) {
  if (wasLost) {
    // The first event of a stream has every part, so the block is the one of the box again.
    for (const button of document.querySelectorAll("[data-was-on]")) {
      button.disabled = false;
      delete button.dataset.wasOn;
    }
  }
  const state = $("state");
  const word = state.querySelector("h1 span").textContent;
  showWord(state.dataset.state, state.dataset.look, word);
  tell(state.dataset.subject, `${word}. ${$("sentence").textContent}`);
  document.dispatchEvent(new CustomEvent("state", { detail: state.dataset.state }));
}

// No news: the block says so, and everything else is as of the last news.
export function showLost(time) {
  const state = $("state");
  const began = performance.now();
  state.dataset.state = "no-news";
  state.dataset.look = "dull";
  state.classList.remove("nothing");
  state.querySelector("h1 use").setAttribute("href", "#s-no-news");
  state.querySelector("h1 span").textContent = "No news";
  $("sentence").textContent = `The box has not answered since ${time}.`;
  $("since").textContent = "This page asks again by itself.";
  let todo = state.querySelector(".do");
  if (!todo) {
    todo = document.createElement("div");
    todo.className = "do";
    state.querySelector(".say").after(todo);
  }
  const list = document.createElement("ol");
  list.id = "todo";
  for (const text of ["Is this device still in the network of the box?", "Is the light on the box on?"]) {
    list.append(Object.assign(document.createElement("li"), { textContent: text }));
  }
  const then = Object.assign(document.createElement("p"), { id: "then", textContent: "The box may still be reading. It does not need this page." });
  todo.replaceChildren(list, then);
  for (const lamp of state.querySelectorAll(".lamp")) {
    lamp.classList.remove("wrong");
    lamp.dataset.mark = "wait";
    lamp.querySelector("use").setAttribute("href", "#wait");
    lamp.querySelector(".hidden").textContent = ": not known";
  }
  for (const heading of document.querySelectorAll("main > section:not(#state) h2")) heading.dataset.asOf = `, as of ${time}`;
  for (const button of document.querySelectorAll("form button:not(:disabled)")) {
    if (button.closest("dialog")) continue;
    button.disabled = true;
    button.dataset.wasOn = "";
  }
  $("now").textContent = `last ${time}`;
  showWord("no-news", "dull", "No news");
  tell("no-news", `No news. ${$("sentence").textContent}`);
  document.dispatchEvent(new CustomEvent("state", { detail: "no-news" }));
  const count = setInterval(() => {
    if (document.body.dataset.live !== "lost") return clearInterval(count);
    $("since").textContent = `For ${age((performance.now() - began) / 1000)}. This page asks again by itself.`;
  }, 1000);
}
