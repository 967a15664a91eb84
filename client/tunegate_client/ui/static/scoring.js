// Sends what the person does on the page to the server, and shows the page that it answers with. Without this
// script, the buttons work, but not the keys.
"use strict";

const main = document.querySelector("main");
const connection = document.getElementById("connection");
const shortcuts = document.querySelector("#shortcuts input");
const TIMEOUT = 60000;
let queue = Promise.resolve(); // keys that are pressed while the server answers wait here

function show(page) {
  const list = document.querySelector("#list ol");
  const top = list?.scrollTop ?? 0;
  const item = () => document.querySelector("#act input[name=item]")?.value;
  const before = item();
  main.replaceChildren(...page.querySelector("main").childNodes);
  document.title = page.title;
  const fresh = document.querySelector("#list ol");
  if (fresh) {
    fresh.scrollTop = top;
    showCurrent(fresh);
  }
  if (item() !== before || !before) window.scrollTo(0, 0);
  document.getElementById("item-title")?.focus({ preventScroll: true }); // which a screen reader reads out
}

// Scrolls the list, but not the page, to the current item.
function showCurrent(list) {
  const current = list.querySelector("[aria-current]");
  if (!current || list.scrollHeight <= list.clientHeight) return;
  const [outer, inner] = [list.getBoundingClientRect(), current.getBoundingClientRect()];
  if (inner.top < outer.top) list.scrollTop += inner.top - outer.top;
  if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom;
}

async function send(button) {
  const body = new URLSearchParams(new FormData(document.getElementById("act"), button));
  try {
    const answer = await fetch(location.href, { method: "POST", body, signal: AbortSignal.timeout(TIMEOUT) });
    const text = await answer.text();
    if (answer.ok) {
      show(new DOMParser().parseFromString(text, "text/html"));
      connection.textContent = "";
    } else {
      connection.textContent = text;
    }
  } catch {
    connection.textContent = "Not connected: the command in the terminal has ended. What was saved is kept.";
  }
}

// The button is searched once earlier keys are carried out, so that it is on the current page.
function press(key) {
  queue = queue.then(() => {
    const button = document.querySelector(`[data-key="${key}"]`);
    if (button) return send(button);
    if (key === "c") document.getElementById("note")?.focus();
  });
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter;
  queue = queue.then(() => (button.isConnected ? send(button) : undefined));
});

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (target.matches("input:not([type=checkbox]), textarea")) {
    if (key === "Escape") document.getElementById("item-title").focus();
    return;
  }
  if (!shortcuts.checked) return;
  if ([" ", "Enter"].includes(key) && target.matches("button, input, summary, a")) return;
  const pressed = key.length === 1 ? key.toLowerCase() : key;
  if (!/^([a-z0-9= ]|Enter)$/.test(pressed)) return;
  event.preventDefault();
  if (!event.repeat) press(pressed); // a key that is held down scores only one item
});

const list = document.querySelector("#list ol");
if (list) showCurrent(list);
