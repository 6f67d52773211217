/* Asks the server every two seconds, and shows what it says.  Whatever comes from there is put in as text. */
"use strict";

const EVERY = 2000;
const PATIENCE = 20000;
const RATE_OVER = 10000; // milliseconds over which rates are taken
const KEPT = 60; // looks that the curves show
const SVG = "http://www.w3.org/2000/svg";

const looks = [];
const curves = { sessions: [], logins: [], messages: [], octets: [] };
const cpu = new Map();
let timer = 0;
let lastGood = 0;

const $ = (id) => document.getElementById(id);
const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
const words = (key) => (key || "none").replaceAll("_", " ");

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function made(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

function count(number) {
  return Math.round(number).toLocaleString("en");
}

function rate(number) {
  return number >= 100 ? count(number) : number.toFixed(number >= 10 || number === 0 ? 0 : 1);
}

function octets(number) {
  const units = ["", "Ki", "Mi", "Gi", "Ti"];
  let at = 0;
  while (number >= 1024 && at < units.length - 1) {
    number /= 1024;
    at += 1;
  }
  return `${number.toFixed(at && number < 10 ? 1 : 0)} ${units[at]}B`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${two(Math.floor(whole / 60) % 60)}m`;
  return `${Math.floor(whole / 86400)}d${two(Math.floor(whole / 3600) % 24)}h`;
}

/* Names may be in any script, and of any length: each keeps its direction to itself. */
function name(text, kind) {
  return made("bdi", kind, text.length > 120 ? `${text.slice(0, 120)}…` : text);
}

/* One row for each entry; rows that stay are left where they are, so that selected text stays selected. */
function table(id, entries, keyOf, cellsOf) {
  const body = $(`${id}-table`).tBodies[0];
  const heads = [...$(`${id}-table`).tHead.rows[0].cells];
  const rows = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  let place = body.firstElementChild;
  for (const entry of entries) {
    const key = keyOf(entry);
    let row = rows.get(key);
    rows.delete(key);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = key;
      for (const head of heads) {
        const cell = row.insertCell();
        cell.className = head.className;
        cell.dataset.label = head.textContent;
      }
    }
    if (row === place) place = place.nextElementSibling;
    else body.insertBefore(row, place);
    cellsOf(entry).forEach((parts, at) => fill(row.cells[at], [parts].flat()));
  }
  for (const row of rows.values()) row.remove();
  $(`${id}-table`).hidden = !entries.length;
  const empty = $(`${id}-empty`);
  if (empty) empty.hidden = entries.length > 0;
}

function fill(cell, parts) {
  const there = cell.cloneNode(false);
  there.append(...parts);
  if (!cell.isEqualNode(there)) cell.replaceChildren(...there.childNodes);
}

function reasons(id, counts, none) {
  const found = Object.entries(counts).filter(([, value]) => value > 0).sort((one, other) => other[1] - one[1]);
  const most = Math.max(1, ...found.map(([, value]) => value));
  $(id).replaceChildren(...found.map(([key, value]) => {
    const item = made("li");
    const bar = document.createElementNS(SVG, "svg");
    bar.setAttribute("class", "bar");
    bar.setAttribute("aria-hidden", "true");
    const part = document.createElementNS(SVG, "rect");
    part.setAttribute("height", "100%");
    part.setAttribute("width", `${(100 * value) / most}%`);
    bar.append(part);
    item.append(made("span", "", words(key)), made("strong", "", count(value)), bar);
    return item;
  }));
  if (!found.length) $(id).append(made("li", "none", none));
  const total = $(`${id}-total`);
  if (total) put(total, found.length ? `${count(sum(counts))} since the start` : "");
}

function curve(id, values, value) {
  values.push(value);
  if (values.length > KEPT) values.shift();
  const svg = $(`spark-${id}`);
  const top = Math.max(...values, 1e-9);
  const from = KEPT - values.length;
  const points = values.map((one, at) => `${from + at},${(30 - (28 * one) / top).toFixed(2)}`);
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 32`);
  svg.setAttribute("preserveAspectRatio", "none");
  if (!svg.firstChild) {
    for (const [tag, kind] of [["polygon", "area"], ["polyline", "line"]]) {
      const shape = document.createElementNS(SVG, tag);
      shape.setAttribute("class", kind);
      svg.append(shape);
    }
  }
  svg.firstChild.setAttribute("points", `${from},31 ${points.join(" ")} ${KEPT - 1},31`);
  svg.lastChild.setAttribute("points", points.join(" "));
}

function rates(totals) {
  const now = {
    at: performance.now(),
    logins: sum(totals.logins),
    messages: totals.messages.retr + totals.messages.top + totals.unfinished.messages,
    octets: sum(totals.octets) + totals.unfinished.octets,
  };
  looks.push(now);
  while (looks.length > 2 && now.at - looks[1].at >= RATE_OVER) looks.shift();
  const before = looks[0];
  const seconds = Math.max(0.001, (now.at - before.at) / 1000);
  const found = {};
  for (const key of ["logins", "messages", "octets"]) {
    // Counters of a worker end with it: what is less than before tells nothing.
    found[key] = Math.max(0, now[key] - before[key]) / seconds;
  }
  return { ...found, totals: now };
}

function showTiles(data) {
  const { totals } = data;
  const open = sum(totals.sessions);
  const found = rates(totals);
  put($("sessions-now"), count(open));
  put($("states"), `${count(totals.sessions.login)} logging in, ${count(totals.sessions.transaction)} logged in, ${count(totals.sessions.update)} removing`);
  put($("logins-rate"), rate(found.logins));
  put($("logins-more"), `last minute ${count(totals.recent.logins)}, failed ${count(totals.recent.failures)}; ${count(found.totals.logins)} since the start`);
  put($("messages-rate"), rate(found.messages));
  put($("messages-more"), `${count(found.totals.messages)} since the start, ${count(totals.messages.dele)} deleted`);
  put($("octets-rate"), octets(found.octets));
  put($("octets-more"), `${octets(found.totals.octets)} since the start`);
  curve("sessions", curves.sessions, open);
  for (const key of ["logins", "messages", "octets"]) curve(key, curves[key], found[key]);
  put($("sessions-more"), open > data.sessions.length ? `${count(data.sessions.length)} of ${count(open)}, those that do something first` : "");
}

function showSessions(sessions) {
  table("sessions", sessions, (one) => one.session, (one) => {
    const who = one.user === null ? name(one.named === null ? "not named yet" : one.named, "who unknown") : name(one.user, "who");
    const from = [made("span", "", one.peer)];
    if (one.tls) {
      const tls = made("span", "badge tls", "TLS");
      tls.title = one.tls;
      from.push(tls);
    }
    const state = [made("span", `badge ${one.state}`, one.state)];
    if (one.doing) state.push(made("span", "doing", one.doing));
    const [messages, sent, size] = one.user === null ? ["–", "–", "–"] : [count(one.messages), count(one.retr), octets(one.octets)];
    return [who, from, state, duration(one.seconds), messages, sent, size, one.worker ? String(one.worker) : "–"];
  });
}

function showWorkers(data) {
  const at = performance.now();
  const processes = [...data.processes].sort((one, other) => one.worker - other.worker || one.pid - other.pid);
  table("workers", processes, (one) => String(one.pid), (one) => {
    const before = cpu.get(one.pid);
    const used = before ? (100 * (one.cpu_seconds - before.seconds)) / Math.max(0.001, (at - before.at) / 1000) : 0;
    cpu.set(one.pid, { at, seconds: one.cpu_seconds });
    return [one.worker ? String(one.worker) : "the only one", String(one.pid), count(one.sessions), before ? `${Math.max(0, used).toFixed(0)} %` : "–", duration(data.at - one.started)];
  });
  put($("workers-more"), data.totals.worker_restarts ? `${count(data.totals.worker_restarts)} restarted` : "");
  $("silent").hidden = !data.silent.length;
  put($("silent"), data.silent.length ? `No answer from ${data.silent.join(", ")}: what follows is without it.` : "");
}

function show(data) {
  put($("version"), data.version);
  put($("uptime"), `up ${duration(data.at - data.started)}`);
  showTiles(data);
  showSessions(data.sessions);
  const { totals } = data;
  reasons("failures", totals.failures, "None.");
  reasons("refusals", totals.refusals, "None.");
  reasons("limits", totals.limits, "None.");
  reasons("queues", totals.queues, "Nothing.");
  reasons("dropped", totals.dropped, "None.");
  table("penalties", data.penalties, (one) => `${one.kind} ${one.key}`, (one) => [name(one.key, "who"), one.kind, count(one.failures), `${duration(one.seconds)} ago`]);
  showWorkers(data);
  const sinks = Object.entries(totals.sinks);
  $("sinks").hidden = !sinks.length;
  table("sinks", sinks, ([key]) => key, ([key, one]) => [name(key, "who"), count(one.sent), count(one.failed), count(one.dropped), count(one.waiting)]);
}

function live(kind, text) {
  $("live").className = `live ${kind}`;
  put($("live"), text);
}

async function look() {
  clearTimeout(timer);
  try {
    const answer = await fetch("/data", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 401 || answer.status === 429) {
      location.reload(); // the form asks for the token
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    lastGood = Date.now();
    $("live").title = "";
    live("on", "Live");
  } catch (problem) {
    $("live").title = String(problem);
    live("off", lastGood ? `No answer since ${new Date(lastGood).toLocaleTimeString()}` : "No answer");
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, EVERY);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else look();
});
look();
