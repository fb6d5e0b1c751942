// One stream in the overview.

import { followStills } from "./pictures.js";
import { duration, element, foundWords, lossOf, percent, say, span, troubleOf } from "./words.js";

/** Text over a picture that does not come; empty while it does. */
export function notice(stream, serverNow, isMissing) {
  if (stream.state === "running" || stream.state === "draining") {
    if (!isMissing) return null;
    const why = stream.frames.entered ? "Frames come in, but none gets through in time." : "No frame has come yet.";
    return { head: "No picture", lines: [["why", why]] };
  }
  const heads = { starting: "Starting", reconnecting: "No picture", failed: "Failed", ended: "Ended", paused: "Paused" };
  const { why, nextTry } = lossOf(stream);
  const lines = [];
  if (why) lines.push(["why", why]);
  const since = `since ${new Date(1000 * stream.since).toLocaleTimeString([], { hour12: false })} (${span(serverNow - stream.since)})`;
  const again = nextTry === null ? "" : nextTry > serverNow + 0.5 ? `, next try in ${span(nextTry - serverNow)}` : ", trying now";
  lines.push(["when", since + again]);
  return { head: heads[stream.state] ?? stream.state, lines };
}

export function showNotice(screen, box, said, hasPicture) {
  screen.classList.toggle("stale", Boolean(said) && hasPicture);
  box.hidden = !said;
  if (!said) return;
  const wanted = [said.head, ...said.lines.map(([, text]) => text)].join("\n");
  if (box.dataset.said === wanted) return;
  box.dataset.said = wanted;
  box.replaceChildren(
    element("strong", {}, said.head),
    ...said.lines.map(([kind, text]) => element("span", { className: kind }, text)),
  );
}

/** Write what was found as a list of chips. */
export function showFound(list, about) {
  const words = foundWords(about?.found);
  const text = words.length ? words : [about?.found ? "nothing found" : ""];
  if (list.dataset.said === text.join("\n")) return;
  list.dataset.said = text.join("\n");
  list.replaceChildren(...text.map((one) => element("li", { className: words.length ? "" : "none" }, one)));
}

export function figure(name) {
  const value = element("dd", {}, "\u2013");
  const box = element("div", {}, element("dt", {}, name), value);
  return { box, value };
}

export class Tile {
  constructor(name) {
    this.stop = new AbortController();
    this.image = element("img", { alt: `Picture of ${name}`, hidden: true });
    this.box = element("p", { className: "notice", hidden: true });
    this.trouble = element("p", { className: "trouble", hidden: true });
    this.screen = element("div", { className: "screen" }, this.image, this.box, this.trouble);
    this.state = element("span", { className: "pill" });
    this.figures = { rate: figure("frames/s"), p50: figure("latency"), p95: figure("p95"), dropped: figure("dropped") };
    this.found = element("ul", { className: "found", "aria-label": "Found now" });
    this.item = element("li", { className: "card" },
      this.screen,
      element("div", { className: "about" },
        element("div", { className: "line" },
          element("h2", {}, element("a", { href: `#stream=${encodeURIComponent(name)}` }, name)), this.state),
        element("dl", { className: "figures" }, ...Object.values(this.figures).map((one) => one.box)),
        this.found));
    this.item.dataset.stream = name;
    this.live = false;
    this.missing = false;
    followStills(this.image, name, {
      place: this.screen,
      isLive: () => this.live,
      signal: this.stop.signal,
      onPicture: (about) => {
        this.missing = !about;
        if (!about) return;
        this.image.hidden = false;
        showFound(this.found, about);
      },
    });
  }

  update(stream, rate, serverNow) {
    this.live = stream.state === "running";
    this.state.className = `pill ${stream.state}`;
    say(this.state, stream.state);
    showNotice(this.screen, this.box, notice(stream, serverNow, this.missing), !this.image.hidden);
    const trouble = this.live ? troubleOf(stream) : ""; // of a stream that is away, the notice says enough
    this.trouble.hidden = !trouble;
    say(this.trouble, trouble);
    const dropped = Object.values(stream.frames.dropped).reduce((sum, n) => sum + n, 0);
    const share = stream.frames.entered ? dropped / stream.frames.entered : 0;
    say(this.figures.rate.value, rate === null ? "\u2013" : rate.toFixed(1));
    say(this.figures.p50.value, duration(stream.latency_recent_s.p50));
    say(this.figures.p95.value, duration(stream.latency_recent_s.p95));
    say(this.figures.dropped.value, dropped ? (share < 0.005 ? String(dropped) : percent(share)) : "0");
    this.figures.dropped.box.classList.toggle("raised", share >= 0.05);
  }

  remove() {
    this.stop.abort();
    this.item.remove();
  }
}
