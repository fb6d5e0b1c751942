// The page: asks the server once a second, shows all streams or one.

import { Detail } from "./detail.js";
import { onTokenWanted, pause, Refused, request, streamPath, useToken } from "./server.js";
import { Tile } from "./tile.js";
import { element, say, span } from "./words.js";

const ASK_EVERY_MS = 1000;
const RATE_OVER_S = 4;
const byId = (id) => document.getElementById(id);

const tiles = new Map();
const counts = new Map(); // by stream: [server's uptime, frames delivered], oldest first
let detail = null;
let status = null;
let lostAt = 0;
let models = [];

function rateOf(stream, uptime) {
  const marks = counts.get(stream.name) ?? [];
  if (marks.length && stream.frames.delivered < marks.at(-1)[1]) marks.length = 0; // it began anew
  marks.push([uptime, stream.frames.delivered]);
  while (marks.length > 2 && uptime - marks[0][0] > RATE_OVER_S) marks.shift();
  counts.set(stream.name, marks);
  const [from, before] = marks[0];
  return uptime > from ? (stream.frames.delivered - before) / (uptime - from) : null;
}

const wanted = () => new URLSearchParams(location.hash.slice(1)).get("stream");

function show() {
  if (!status) return;
  const waiting = status.not_ready.length ? ` \u00b7 ${status.not_ready.join(", ")}` : "";
  const cores = `${status.cores.busy.toFixed(1)} of ${status.cores.usable} cores`;
  say(byId("facts"), `${status.version} on ${status.device} \u00b7 up ${span(status.uptime_s)} \u00b7 ${cores}${waiting}`);
  const now = Date.now() / 1000;
  const rates = new Map(status.streams.map((one) => [one.name, rateOf(one, status.uptime_s)]));
  const chosen = status.streams.find((one) => one.name === wanted());
  if (wanted() && !chosen) location.hash = "";
  byId("overview").hidden = Boolean(chosen);
  byId("detail").hidden = !chosen;
  document.title = chosen ? `${chosen.name} \u2013 vrseg` : "vrseg";
  if (chosen) showDetail(chosen, rates, now);
  else showOverview(rates, now);
}

function showOverview(rates, now) {
  detail?.remove();
  detail = null;
  const { bottleneck } = status;
  const head = bottleneck.kind === "unknown" ? "Bottleneck unknown" : `Bottleneck: ${bottleneck.stage}`;
  if (byId("verdict").dataset.said !== head + bottleneck.evidence) {
    byId("verdict").dataset.said = head + bottleneck.evidence;
    byId("verdict").replaceChildren(element("strong", {}, head), ` \u2013 ${bottleneck.evidence}.`);
  }
  byId("verdict").hidden = !status.streams.length;
  byId("empty").hidden = status.streams.length > 0;
  const names = new Set(status.streams.map((one) => one.name));
  for (const [name, tile] of tiles) {
    if (!names.has(name)) {
      tile.remove();
      tiles.delete(name);
      counts.delete(name);
    }
  }
  for (const stream of status.streams) {
    if (!tiles.has(stream.name)) {
      tiles.set(stream.name, new Tile(stream.name));
      byId("grid").append(tiles.get(stream.name).item);
    }
    tiles.get(stream.name).update(stream, rates.get(stream.name), now);
  }
}

function showDetail(stream, rates, now) {
  for (const tile of tiles.values()) tile.remove(); // their pictures would be fetched for nobody
  tiles.clear();
  if (detail?.name !== stream.name) {
    detail?.remove();
    const act = (ending) => command(stream.name, ending);
    detail = new Detail(byId("detail"), stream.name, {
      restart: () => act("/restart"), pause: (paused) => act(paused ? "/resume" : "/pause"), remove: () => askRemoval(stream.name),
    });
    byId("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  detail.update(stream, status, rates.get(stream.name), now);
}

async function command(name, ending) {
  try {
    await request(streamPath(name, ending), { method: "POST", body: {} });
    tell("");
  } catch (error) {
    tell(error.message);
  }
  await ask();
}

/** Say something at the top of the page, to screen readers too; nothing when all is well. */
function tell(text) {
  byId("banner").hidden = !text;
  say(byId("banner"), text);
}

async function ask() {
  if (byId("token-dialog").open) return;
  try {
    status = await (await request("api/v1/status", { signal: AbortSignal.timeout(5000) })).json();
    if (lostAt) {
      lostAt = 0;
      document.body.classList.remove("lost");
      tell("");
    }
    show();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return;
    if (error instanceof Refused) return tell(error.message);
    if (!lostAt) lostAt = Date.now();
    const since = new Date(lostAt).toLocaleTimeString([], { hour12: false });
    tell(`The server does not answer since ${since}. What you see is from then; this page goes on as soon as it is back.`);
    document.body.classList.add("lost");
  }
}

function prepareDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
  }
  byId("add").addEventListener("click", openAddition);
  byId("add-form").addEventListener("submit", add);
  byId("unlock").addEventListener("click", () => byId("token-dialog").showModal());
  byId("token-form").addEventListener("submit", takeToken);
  onTokenWanted(() => {
    byId("unlock").hidden = false;
    if (!document.querySelector("dialog[open]")) byId("token-dialog").showModal();
  });
}

async function openAddition() {
  say(byId("add-problem"), "");
  try {
    models = Object.keys((await (await request("api/v1/config")).json()).models ?? {});
  } catch {
    models = []; // the form says on submit what is wrong
  }
  byId("add-model").replaceChildren(...models.map((one) => element("option", { value: one }, one)), element("option", { value: "" }, "none"));
  byId("add-dialog").showModal();
}

async function add(event) {
  event.preventDefault();
  const form = new FormData(event.target);
  const id = form.get("id").trim();
  const stream = { source: { uri: form.get("uri").trim() }, view: form.get("view") };
  if (form.get("model")) stream.model = form.get("model");
  const missing = !id ? "add-id" : !stream.source.uri ? "add-uri" : null;
  if (missing) {
    say(byId("add-problem"), missing === "add-id" ? "A stream needs a name." : "A stream needs a source address.");
    return byId(missing).focus();
  }
  try {
    await request("api/v1/streams", { method: "POST", body: { id, stream } });
  } catch (error) {
    return say(byId("add-problem"), error.message);
  }
  byId("add-dialog").close();
  event.target.reset();
  await ask();
}

function askRemoval(name) {
  say(byId("confirm-title"), `Remove ${name}?`);
  say(byId("confirm-text"), "It stops now, and its outputs are completed. Recordings that were made stay where they are.");
  byId("confirm-form").onsubmit = async (event) => {
    event.preventDefault();
    byId("confirm-dialog").close();
    try {
      await request(streamPath(name), { method: "DELETE" });
      location.hash = "";
      tell("");
    } catch (error) {
      tell(error.message);
    }
    await ask();
  };
  byId("confirm-dialog").showModal();
}

async function takeToken(event) {
  event.preventDefault();
  useToken(byId("token").value.trim());
  try {
    await request("api/v1/status");
  } catch (error) {
    if (error.status === 401) return say(byId("token-problem"), "That is not the token.");
  }
  say(byId("token-problem"), "");
  byId("token").value = "";
  byId("token-dialog").close();
  await ask();
}

prepareDialogs();
addEventListener("hashchange", show);
for (;;) {
  await ask();
  await pause(ASK_EVERY_MS);
}
