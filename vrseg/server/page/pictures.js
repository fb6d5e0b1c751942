// Pictures into <img> elements. They are fetched, not named in `src`, so that a token can go with the request.

import { pause, previewPath, request } from "./server.js";

const STILL_EVERY_MS = 400;
const AFTER_FAILURE_MS = 2000;
const ASK_AGAIN_MS = 250;

/** Show a picture of the stream every now and then, while its place can be seen and the stream runs. */
export async function followStills(image, name, { place, isLive, signal, onPicture }) {
  const seen = watchVisibility(place, signal);
  while (!signal.aborted) {
    await seen.visible();
    if (!isLive()) {
      await pause(ASK_AGAIN_MS, signal);
      continue;
    }
    const began = performance.now();
    try {
      const answer = await request(previewPath(name, ".jpg"), { signal });
      const about = aboutPicture((header) => answer.headers.get(header));
      await show(image, await answer.blob());
      onPicture(about);
      await pause(STILL_EVERY_MS - (performance.now() - began), signal);
    } catch {
      onPicture(null);
      await pause(AFTER_FAILURE_MS, signal);
    }
  }
}

/** Show the stream's pictures as they come. */
export async function followPictures(image, name, side, { isLive, signal, onPicture }) {
  while (!signal.aborted) {
    if (!isLive()) {
      await pause(ASK_AGAIN_MS, signal);
      continue;
    }
    try {
      const answer = await request(previewPath(name, ".mjpg", side), { signal });
      for await (const part of partsOf(answer)) {
        await show(image, new Blob([part.body], { type: "image/jpeg" }));
        onPicture(aboutPicture((header) => part.headers.get(header)));
      }
    } catch {
      // what is wrong is told by the stream's state
    }
    onPicture(null);
    await pause(AFTER_FAILURE_MS, signal);
  }
}

function aboutPicture(header) {
  return { found: JSON.parse(header("x-found") ?? "null"), delay: Date.now() / 1000 - Number(header("x-taken")) };
}

/** Put a picture in the place of the one before, without a flash between them. */
async function show(image, blob) {
  const address = URL.createObjectURL(blob);
  const next = new Image();
  next.src = address;
  await next.decode();
  const before = image.src;
  image.src = address;
  await image.decode().catch(() => {}); // it was replaced meanwhile
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
}

/** Yield the parts of a multipart answer, each {headers, body}. */
async function* partsOf(answer) {
  const reader = answer.body.getReader();
  const text = new TextDecoder("latin1");
  let held = new Uint8Array(0);
  for (;;) {
    const end = endOfHead(held);
    if (end > 0) {
      const lines = text.decode(held.subarray(0, end)).split("\r\n");
      const headers = new Map(lines.filter((line) => line.includes(":")).map(splitHeader));
      const length = Number(headers.get("content-length"));
      if (held.length >= end + length) {
        yield { headers, body: held.slice(end, end + length) };
        held = held.slice(end + length + 2);
        continue;
      }
    }
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
  }
}

function splitHeader(line) {
  const colon = line.indexOf(":");
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

function endOfHead(bytes) {
  for (let i = 3; i < Math.min(bytes.length, 4096); i++) {
    if (bytes[i] === 10 && bytes[i - 1] === 13 && bytes[i - 2] === 10 && bytes[i - 3] === 13) return i + 1;
  }
  return 0;
}

function watchVisibility(element, signal) {
  let inView = false;
  let tell = () => {};
  const observer = new IntersectionObserver((entries) => {
    inView = entries.at(-1).isIntersecting;
    tell();
  });
  const onPage = () => tell();
  observer.observe(element);
  document.addEventListener("visibilitychange", onPage);
  signal.addEventListener("abort", () => {
    observer.disconnect();
    document.removeEventListener("visibilitychange", onPage);
    tell();
  });
  return {
    async visible() {
      while (!signal.aborted && !(inView && !document.hidden)) await new Promise((resolve) => (tell = resolve));
    },
  };
}
