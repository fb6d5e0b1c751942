// The page of one stream.

import { followPictures } from "./pictures.js";
import { canPlay, play } from "./player.js";
import { pause, previewPath, request } from "./server.js";
import { figure, notice, showFound, showNotice } from "./tile.js";
import { clock, count, duration, element, outputName, percent, say } from "./words.js";

const STAGE_HEADINGS = ["stage", "busy", "wait p50", "work p50", "p95", "p99", "input full"];

export class Detail {
  constructor(root, name, actions) {
    this.name = name;
    this.stop = new AbortController();
    this.state = element("span", { className: "pill" });
    this.input = pane("Input");
    this.output = pane("Output");
    this.found = element("ul", { className: "found", "aria-label": "Found now" });
    this.figures = Object.fromEntries(
      ["codec", "size", "frames/s", "latency p50", "p95", "p99", "delivered", "dropped", "failed", "under way", "reconnects", "damaged units"]
        .map((one) => [one, figure(one)]));
    this.stages = element("tbody");
    this.queues = element("tbody");
    this.verdict = element("p");
    this.history = element("ol", { className: "history" });
    this.outputs = element("ul", { className: "history outputs" });
    this.outputsPanel = element("section", { className: "panel", hidden: true }, element("h2", {}, "Outputs"), this.outputs);
    this.pauseButton = button("Pause", () => actions.pause(this.paused));
    root.replaceChildren(
      element("div", { className: "top" },
        element("a", { className: "back", href: "#" }, "\u2190 All streams"),
        element("h1", { id: "detail-name" }, name), this.state,
        element("div", { className: "actions" }, button("Restart", actions.restart), this.pauseButton, button("Remove\u2026", actions.remove))),
      element("div", { className: "panes" }, this.input.figure, this.output.figure),
      element("section", { className: "panel" }, element("h2", {}, "Now"),
        element("dl", { className: "figures" }, ...Object.values(this.figures).map((one) => one.box)), this.found),
      this.outputsPanel,
      element("section", { className: "panel" }, element("h2", {}, "Stages of all streams"), this.verdict,
        scrolling("Stages", table(STAGE_HEADINGS, this.stages))),
      element("div", { className: "columns" },
        element("section", { className: "panel" }, element("h2", {}, "Queues"),
          scrolling("Queues", table(["queue", "fill", "waiting", "writers waited"], this.queues))),
        element("section", { className: "panel" }, element("h2", {}, "What happened"), this.history)));
    this.#watch();
  }

  update(stream, status, rate, serverNow) {
    this.live = stream.state === "running";
    this.paused = stream.state === "paused";
    this.state.className = `pill ${stream.state}`;
    say(this.state, stream.state);
    say(this.pauseButton, this.paused ? "Resume" : "Pause");
    for (const side of [this.input, this.output]) showNotice(side.screen, side.box, notice(stream, serverNow, side.missing), side.shown);
    const { frames, latency_recent_s: latency } = stream;
    const dropped = Object.entries(frames.dropped).filter(([, n]) => n);
    const values = {
      "codec": stream.codec ?? "\u2013",
      "size": stream.codec ? `${stream.width}\u00d7${stream.height}` : "\u2013",
      "frames/s": rate === null ? "\u2013" : rate.toFixed(1),
      "latency p50": duration(latency.p50), "p95": duration(latency.p95), "p99": duration(latency.p99),
      "delivered": count(frames.delivered),
      "dropped": dropped.length ? dropped.map(([why, n]) => `${count(n)} ${why.replace("_", " ")}`).join(", ") : "0",
      "failed": count(frames.failed), "under way": count(frames.under_way),
      "reconnects": count(stream.reconnects), "damaged units": count(stream.damaged_units),
    };
    for (const [key, value] of Object.entries(values)) say(this.figures[key].value, value);
    this.#outputs(stream.outputs);
    this.#tables(status);
    const said = stream.history.toReversed().map((one) => [clock(one.at), one.state, one.detail]);
    fill(this.history, said, ([at, state, why]) => element("li", {},
      element("time", {}, at), element("span", { className: `pill ${state}` }, state), element("span", { className: "why" }, why)));
  }

  remove() {
    this.stop.abort();
  }

  #outputs(outputs) {
    this.outputsPanel.hidden = !outputs.length;
    const rows = outputs.map((one) => {
      const lost = Object.values(one.packets_dropped).reduce((sum, n) => sum + n, 0);
      return [clock(one.since), one.state, outputName(one), [one.detail, lost ? `${count(lost)} packets not taken` : ""].filter(Boolean).join("; ")];
    });
    fill(this.outputs, rows, ([since, state, name, why]) => element("li", {},
      element("time", {}, `since ${since}`), element("span", { className: `pill output-${state}` }, state),
      element("span", { className: "why" }, why ? `${name}: ${why}` : name)));
  }

  #tables(status) {
    const { bottleneck } = status;
    say(this.verdict, `${bottleneck.kind === "unknown" ? "Bottleneck unknown" : `Bottleneck: ${bottleneck.stage}`} \u2013 ${bottleneck.evidence}.`);
    fill(this.stages, status.stages, (one) => element("tr", { className: one.stage === bottleneck.stage ? "limit" : "" },
      element("th", { scope: "row" }, one.stage), gauge(one.busy_ratio), cell(duration(one.wait_s.p50)),
      cell(duration(one.duration_s.p50)), cell(duration(one.duration_s.p95)), cell(duration(one.duration_s.p99)),
      gauge(one.input_full_ratio)));
    const own = status.queues.filter((one) => one.queue.startsWith(`${this.name}.`));
    fill(this.queues, own, (one) => element("tr", {},
      element("th", { scope: "row" }, one.queue.slice(this.name.length + 1)), gauge(one.capacity ? one.depth / one.capacity : 0),
      cell(`${one.depth} of ${one.capacity}`), cell(duration(one.blocked_s))));
  }

  #watch() {
    const { signal } = this.stop;
    const isLive = () => this.live;
    followPictures(this.input.image, this.name, "input", {
      isLive, signal, onPicture: (about) => shown(this.input, about, "as decoded"),
    });
    this.#watchOutput(isLive, signal);
  }

  async #watchOutput(isLive, signal) {
    const { output } = this;
    if (canPlay() && (await this.#encodesH264())) {
      for (let tries = 0; tries < 3 && !signal.aborted; tries++) {
        const results = new AbortController();
        signal.addEventListener("abort", () => results.abort());
        try {
          const told = (delay) => {
            tries = 0;
            output.shown = true;
            output.missing = false;
            output.image.hidden = true;
            output.video.hidden = false;
            say(output.caption, `as encoded \u00b7 ${delay.toFixed(1)} s behind`);
          };
          this.#askResults(results.signal);
          await play(output.video, `live/${encodeURIComponent(this.name)}/`, { isLive, signal, onDelay: told });
        } catch {
          output.missing = true;
          await pause(1000, signal);
        } finally {
          results.abort();
        }
      }
    }
    output.video.hidden = true;
    output.image.hidden = false;
    await followPictures(output.image, this.name, "output", {
      isLive,
      signal,
      onPicture: (about) => {
        shown(output, about, "as drawn");
        if (about) showFound(this.found, about);
      },
    });
  }

  async #encodesH264() {
    try {
      const config = await (await request("api/v1/config")).json();
      return config.streams[this.name].outputs.some((one) => one.codec === "h264");
    } catch {
      return false;
    }
  }

  async #askResults(signal) {
    while (!signal.aborted) {
      try {
        if (this.live) showFound(this.found, await (await request(previewPath(this.name, ".json"), { signal })).json());
      } catch {
        // the stream's state tells why
      }
      await pause(1000, signal);
    }
  }
}

function pane(name) {
  const image = element("img", { alt: `${name}, live`, hidden: true });
  const video = element("video", { muted: true, playsInline: true, hidden: true, disablePictureInPicture: true, "aria-label": `${name}, live` });
  const box = element("p", { className: "notice", hidden: true });
  const screen = element("div", { className: "screen" }, image, video, box);
  const caption = element("span", {}, "");
  return { image, video, box, screen, caption, shown: false, missing: false,
    figure: element("figure", { className: "pane" }, screen, element("figcaption", {}, element("strong", {}, name), caption)) };
}

function shown(side, about, what) {
  side.missing = !about;
  if (!about) return;
  side.shown = true;
  side.image.hidden = false;
  say(side.caption, about.delay < 60 ? `${what} \u00b7 ${about.delay.toFixed(1)} s behind` : what);
}

function button(text, action) {
  return element("button", { type: "button", onclick: action }, text);
}

function table(headings, body) {
  return element("table", {}, element("thead", {}, element("tr", {}, ...headings.map((one) => element("th", { scope: "col" }, one)))), body);
}

function scrolling(name, inner) {
  return element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": name }, inner);
}

function cell(text) {
  return element("td", {}, text);
}

function gauge(ratio) {
  const filled = element("span");
  filled.style.width = `${100 * ratio}%`;
  return element("td", {}, element("span", { className: "track", "aria-hidden": "true" }, filled),
    element("span", { className: "share" }, percent(ratio)));
}

/** Replace the rows only when they say something else. */
function fill(parent, rows, make) {
  const said = JSON.stringify(rows);
  if (parent.dataset.said === said) return;
  parent.dataset.said = said;
  parent.replaceChildren(...rows.map(make));
}
