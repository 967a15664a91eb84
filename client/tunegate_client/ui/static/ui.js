// Replaces the sections of the page whose content changed on the server. Without this script, the browser
// reloads the page.
"use strict";

const interval = (page) => Number(page.documentElement.dataset.refresh) * 1000;
const LONGEST_PAUSE = 30000;
const IDLE_SHARE = 5; // pause for at least this many times as long as the server needed
const TIMEOUT = 60000;

const sections = (page) => [...page.querySelectorAll("main > *")];
const main = document.querySelector("main");
const connection = document.getElementById("connection");
const key = (element, i) => element.id || `${element.localName}-${i}`;
let known = new Map(sections(document).map((element, i) => [key(element, i), element.outerHTML]));
let refresh = interval(document);
let etag = "";
let failures = 0;

function show(page) {
  const fresh = sections(page);
  const next = new Map(fresh.map((element, i) => [key(element, i), element.outerHTML]));
  const focused = document.activeElement?.id;
  if ([...next.keys()].join() === [...known.keys()].join()) {
    sections(document).forEach((element, i) => {
      const id = key(element, i);
      if (next.get(id) === known.get(id)) return;
      element.className = fresh[i].className;
      element.replaceChildren(...fresh[i].childNodes);
    });
  } else {
    main.replaceChildren(...fresh);
  }
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus();
  if (document.title !== page.title) {
    document.title = page.title;
    document.getElementById("news").textContent = page.title; // which a screen reader reads out
  }
  refresh = interval(page);
  known = next;
}

async function update() {
  const started = performance.now();
  try {
    const headers = etag ? { "If-None-Match": etag } : {};
    const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    if (answer.status !== 304) {
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      etag = answer.ok ? answer.headers.get("ETag") ?? "" : "";
    }
    failures = 0;
    connection.textContent = "";
  } catch {
    failures += 1;
    connection.textContent = "Not connected: is tunegate ui still running?";
  }
  const pause = failures ? refresh * 2 ** failures : Math.max(refresh, IDLE_SHARE * (performance.now() - started));
  setTimeout(next, Math.min(pause, LONGEST_PAUSE));
}

// A hidden page asks for nothing.
function next() {
  if (document.hidden) document.addEventListener("visibilitychange", next, { once: true });
  else update();
}

setTimeout(next, refresh);
