// Low-latency HLS into a <video>, by Media Source Extensions: blocking reloads of the playlist, parts as they come.

import { pause, request } from "./server.js";

const EDGE_S = 0.5; // behind the newest part: two parts, so that one may be late
const SLACK_S = 0.35;
const FAR_BEHIND_S = 3;
const KEEP_S = 8;
const CATCH_UP_RATE = 1.06;

export const canPlay = () =>
  "MediaSource" in window && MediaSource.isTypeSupported('video/mp4; codecs="avc1.640028"');

/** Play until `signal` says so; throws when this stream cannot be played like that. `onDelay` gets seconds. */
export async function play(video, base, { isLive, signal, onDelay }) {
  const source = new MediaSource();
  const address = URL.createObjectURL(source);
  video.src = address;
  try {
    await once(source, "sourceopen");
    await feed(video, source, base, { isLive, signal, onDelay });
  } finally {
    URL.revokeObjectURL(address);
    video.removeAttribute("src");
    video.load();
  }
}

async function feed(video, source, base, { isLive, signal, onDelay }) {
  const get = async (name) => {
    while (!isLive() && !signal.aborted) await pause(250, signal); // nothing new would come
    return request(base + name, { signal });
  };
  let list = parsePlaylist(await (await get("index.m3u8")).text());
  let next = list.parts.findLastIndex((part) => part.independent);
  if (next < 0) throw new Error("nothing to begin with");
  let buffer = null;
  let head = null;
  for (;;) {
    for (const part of list.parts.slice(next)) {
      if (part.head !== head) {
        const answer = await get(part.head);
        const type = `video/mp4; codecs="${answer.headers.get("x-codec")}"`;
        if (buffer) buffer.changeType(type);
        else buffer = source.addSourceBuffer(type);
        await append(buffer, await answer.arrayBuffer());
        head = part.head;
      }
      await append(buffer, await (await get(part.uri)).arrayBuffer());
      steer(video, buffer, part, onDelay);
    }
    await trim(buffer, video.currentTime - KEEP_S);
    const last = list.parts.at(-1);
    list = await reload(get, list, signal);
    next = list.parts.findIndex((part) => part.segment > last.segment || (part.segment === last.segment && part.index > last.index));
    if (next < 0) throw new Error("the stream began anew");
  }
}

/** Ask for the playlist that has the next part. While none comes, ask again: the page tells why. */
async function reload(get, list, signal) {
  for (;;) {
    try {
      const answer = await get(`index.m3u8?_HLS_msn=${list.hint.segment}&_HLS_part=${list.hint.index}`);
      return parsePlaylist(await answer.text());
    } catch (error) {
      if (error.status !== 503 || signal.aborted) throw error;
      await pause(500, signal);
    }
  }
}

/** Keep close to the newest part: begin, jump over holes, catch up. */
function steer(video, buffer, part, onDelay) {
  const ranges = buffer.buffered;
  if (!ranges.length) return;
  const end = ranges.end(ranges.length - 1);
  const start = ranges.start(ranges.length - 1);
  const behind = end - video.currentTime;
  if (video.currentTime < start || behind > FAR_BEHIND_S) video.currentTime = Math.max(start, end - EDGE_S);
  video.playbackRate = behind > EDGE_S + SLACK_S ? CATCH_UP_RATE : 1;
  if (video.paused && end - start >= EDGE_S) video.play().catch(() => {});
  if (part.endsAt) onDelay(Date.now() / 1000 - (part.endsAt - (end - video.currentTime)));
}

async function append(buffer, data) {
  buffer.appendBuffer(data);
  await once(buffer, "updateend");
}

async function trim(buffer, until) {
  if (!buffer.buffered.length || buffer.buffered.start(0) >= until - 2) return;
  buffer.remove(0, until);
  await once(buffer, "updateend");
}

function once(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("the video cannot be played")), { once: true });
  });
}

/** Read a playlist: its parts, each with the head that it needs, and the part that comes next. */
export function parsePlaylist(text) {
  const parts = [];
  let head = "";
  let hint = null;
  let at = 0;
  for (const line of text.split("\n")) {
    const [tag, rest = ""] = splitOnce(line);
    if (tag === "#EXT-X-MAP") head = attribute(rest, "URI");
    else if (tag === "#EXT-X-PROGRAM-DATE-TIME") at = Date.parse(rest) / 1000;
    else if (tag === "#EXT-X-PART") {
      const uri = attribute(rest, "URI");
      at += Number(attribute(rest, "DURATION"));
      parts.push({ uri, head, endsAt: at, independent: rest.includes("INDEPENDENT=YES"), ...placeOf(uri) });
    } else if (tag === "#EXT-X-PRELOAD-HINT") hint = placeOf(attribute(rest, "URI"));
  }
  return { parts, hint };
}

function splitOnce(line) {
  const colon = line.indexOf(":");
  return colon < 0 ? [line] : [line.slice(0, colon), line.slice(colon + 1)];
}

function attribute(text, name) {
  return text.match(new RegExp(`(?:^|,)${name}="?([^",]*)`))?.[1] ?? "";
}

function placeOf(uri) {
  const [segment, index] = uri.split(".").map(Number);
  return { segment, index };
}
