// The page of a box. It shows what the box sends, counts the seconds, and says when there is no news. It decides nothing by
// itself: state, sentence, what to do and the words of each link are those of the box.
import { apply } from "./parts.js";
import { beat, freeze, tick } from "./clock.js";
import { follow } from "./stream.js";
import { hear } from "./sound.js";
import { watchScroll, setUpSun, setUpSpan, showState, showLost } from "./look.js";
import { setUpAsk } from "./ask.js";

const body = document.body;
setUpSun();
setUpAsk();

if (body.dataset.page === "box") {
  setUpSpan();
  watchScroll();
  hear();
  follow({
    // An event of the box: the clocks, and what changed.
    news(event) {
      if (event.v !== body.dataset.version && !document.querySelector("dialog[open]")) return location.reload();
      const wasLost = body.dataset.live === "lost";
      body.dataset.live = "yes";
      beat(event);
      apply(event, wasLost);
      if (wasLost || event.parts) showState(wasLost);
      tick();
    },
    // No event came for some seconds.
    lost() {
      if (body.dataset.live === "lost") return;
      body.dataset.live = "lost";
      showLost(freeze());
    },
  });
  setInterval(tick, 250);
}
