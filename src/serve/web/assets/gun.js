// Before the gun: asks for the cards once a second, and says when the box does not answer.
const PACE = 1000; // ms between two questions
const SILENCE = 5000; // ms without an answer until the page says so

let last = performance.now();
let stands = document.querySelector(".as-of").textContent.split(". ")[0];

function put(html) {
  const forge = document.createElement("template");
  forge.innerHTML = html;
  const fresh = forge.content.querySelector("#gun");
  const old = document.getElementById("gun");
  if (!fresh || !old) return;
  stands = fresh.querySelector(".as-of").textContent.split(". ")[0];
  if (!old.isEqualNode(fresh)) old.replaceWith(fresh);
}

function tell() {
  const note = document.getElementById("no-news");
  const lost = performance.now() - last > SILENCE;
  document.body.classList.toggle("as-of-before", lost);
  if (note.hidden === !lost) return;
  note.textContent = lost ? `No news: the box does not answer. The ticks are ${stands.toLowerCase()}.` : "";
  note.hidden = !lost;
}

async function ask() {
  try {
    const answer = await fetch("/gun/mats", { cache: "no-store", signal: AbortSignal.timeout(SILENCE) });
    if (answer.status === 401 || answer.status === 403) return location.reload();
    if (answer.ok) {
      put(await answer.text());
      last = performance.now();
    }
  } catch {
    // The next question follows.
  }
  tell();
  setTimeout(ask, PACE);
}

document.getElementById("print").onclick = () => print();
setTimeout(ask, PACE);
