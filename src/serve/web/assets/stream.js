// The stream of events. The box sends at least one a second, so silence means that there is no way to it.

const SILENCE = 5000; // ms without an event until the page says so
const RETRY = 2000; // ms between two tries

export function follow({ news, lost }) {
  let source = null;
  let last = performance.now();
  let tried = 0;

  function open() {
    if (source) source.close();
    tried = performance.now();
    source = new EventSource("/events");
    source.onmessage = (message) => {
      last = performance.now();
      news(JSON.parse(message.data));
    };
    source.onerror = () => {
      // A stream that ended is over. The watch below opens the next one; the browser's own retry is slower.
      source.close();
    };
  }

  // The browser does not say why a stream ended: the login may be over. Then the page leads to the login.
  async function askLogin() {
    try {
      const answer = await fetch("/gun/mats", { cache: "no-store", signal: AbortSignal.timeout(RETRY) });
      if (answer.status === 401) location.reload();
    } catch {
      // The box does not answer, and the page says so.
    }
  }

  function look() {
    const now = performance.now();
    if (now - last > SILENCE) lost();
    const dead = source.readyState === EventSource.CLOSED || now - last > SILENCE;
    if (dead && now - tried > RETRY) {
      if (source.readyState === EventSource.CLOSED) askLogin();
      open();
    }
  }

  // A page that was asleep, or a phone that found its network again, asks at once.
  function wake() {
    if (document.visibilityState === "hidden") return;
    if (performance.now() - last > RETRY) {
      look();
      open();
    }
  }

  open();
  setInterval(look, 500);
  addEventListener("online", wake);
  addEventListener("pageshow", (event) => event.persisted && wake());
  document.addEventListener("visibilitychange", wake);
}
