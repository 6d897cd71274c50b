// Asks once before something that cannot be undone: a button with `data-ask` (the question), `data-ask-text` (what happens and
// what stays) and `data-ask-yes` (the verb again). Without this script the box asks on a page of its own.

export function setUpAsk() {
  const dialog = document.getElementById("ask");
  const part = (name) => document.getElementById(`ask-${name}`);
  const token = document.body.dataset.csrf;
  document.addEventListener("submit", (event) => {
    const [form, button] = [event.target, event.submitter];
    if (form.method === "dialog") return;
    // Parts of the page are the same for everybody, so the token of this login is put in here.
    for (const field of form.querySelectorAll("input[name=csrf]")) if (!field.value && token) field.value = token;
    if (!button || !button.dataset.ask || form.dataset.asked) {
      // A disabled button is no part of what is sent, so it is disabled after the browser has read the form.
      if (button) setTimeout(() => (button.disabled = true));
      return;
    }
    event.preventDefault();
    part("title").textContent = button.dataset.ask;
    part("text").textContent = button.dataset.askText || "";
    part("yes").textContent = button.dataset.askYes || "Yes";
    dialog.returnValue = "no";
    dialog.onclose = () => {
      if (dialog.returnValue !== "yes") return;
      // The box may have drawn the part with the form anew while the question was open.
      const same = [...document.forms].find((one) => one.getAttribute("action") === form.getAttribute("action"));
      const live = form.isConnected ? form : same;
      const pressed = live && [...live.elements].find((one) => one.name === button.name && one.value === button.value);
      if (!pressed) return;
      live.dataset.asked = "yes";
      for (const field of live.querySelectorAll("input[name=csrf]")) if (!field.value && token) field.value = token;
      live.append(Object.assign(document.createElement("input"), { type: "hidden", name: "sure", value: "yes" }));
      live.requestSubmit(pressed);
    };
    dialog.showModal();
  });
}
