// Puts what the box sends in its place. Each part is one element with an id.

const MOST_ROWS = 20;
const forge = document.createElement("template");

function element(html) {
  forge.innerHTML = html;
  return forge.content.firstElementChild;
}

// Replaces an element. The focus and what somebody opened stay as they are.
function put(id, html) {
  const old = document.getElementById(id);
  const fresh = element(html);
  if (!old || !fresh || old.isEqualNode(fresh)) return;
  const focused = old.contains(document.activeElement) ? document.activeElement.id || document.activeElement.textContent : null;
  if (fresh.tagName === "DETAILS" && old.dataset.mark === fresh.dataset.mark) fresh.open = old.open;
  if (old.hidden && id.startsWith("plots-")) fresh.hidden = true;
  old.replaceWith(fresh);
  if (focused === null) return;
  const again = document.getElementById(focused) || [...fresh.querySelectorAll("a, button, summary")].find((one) => one.textContent === focused);
  if (again) again.focus({ preventScroll: true });
}

// Puts rows in their order, the newest first, and takes those away that are no longer among the newest.
function putRows(rows, oldest, isNew) {
  const table = document.getElementById("rows");
  for (const [seq, html] of [...rows].reverse()) {
    const fresh = element(html);
    const old = document.getElementById(fresh.id);
    if (old) {
      if (!old.isEqualNode(fresh)) old.replaceWith(fresh);
      continue;
    }
    const next = [...table.rows].find((row) => Number(row.id.slice(1)) < seq);
    if (isNew) fresh.classList.add("new");
    table.insertBefore(fresh, next || null);
  }
  for (const row of [...table.rows]) {
    if (Number(row.id.slice(1)) < oldest || row.sectionRowIndex >= MOST_ROWS) row.remove();
  }
  document.getElementById("no-reads").hidden = table.rows.length > 0;
}

let begun = false;

export function apply(event, wasLost) {
  for (const [id, html] of event.parts || []) {
    put(id, html);
    if (id === "plots-10m") document.getElementById("plots").hidden = false;
  }
  if (event.rows) putRows(event.rows, event.oldest, begun && !wasLost);
  begun = true;
}
