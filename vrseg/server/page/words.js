// Figures and moments as text, and elements without markup in strings.

/** Make an element: `element("p", {className: "x"}, "text", child)`. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** Change a text only when it is another: screen readers and the layout are left in peace. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const duration = (s) => (s === 0 ? "\u2013" : s < 0.9995 ? `${(1000 * s).toFixed(s < 0.01 ? 1 : 0)} ms` : `${s.toFixed(1)} s`);
export const percent = (ratio) => `${Math.round(100 * ratio)} %`;
export const count = (n) => n.toLocaleString("en").replaceAll(",", "\u2009");

export function span(s) {
  if (s < 60) return `${Math.max(0, Math.floor(s))} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

export const clock = (unix) => new Date(1000 * unix).toLocaleTimeString([], { hour12: false });

export function foundWords(found) {
  if (!found) return [];
  return Object.entries(found).map(([name, n]) => (Number.isInteger(n) && n > 0 ? `${n} ${name}` : `${name} ${shareWords(n)}`));
}

const shareWords = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

const OUTPUTS = { file: "Recording", hls: "HLS", rtsp: "RTSP push", rtmp: "RTMP push", srt: "SRT push" };
const HELD_UP = new Set(["paused", "reconnecting"]);

export const outputName = (output) => OUTPUTS[output.kind] ?? output.kind;

/** Say which outputs do not reach whom they are for, and why; empty when all do. */
export function troubleOf(stream) {
  const held = stream.outputs.filter((one) => HELD_UP.has(one.state));
  if (!held.length) return "";
  const [{ state, detail }] = held;
  if (held.length > 1) return `${held.length} of ${stream.outputs.length} outputs held up: ${detail}`;
  return `${outputName(held[0])} ${state}: ${detail}`;
}

/** Split what the server says of a lost stream into the reason and when it is tried again. */
export function lossOf(stream) {
  const [, why, wait] = stream.detail.match(/^(.*?)(?:; next try in ([\d.]+) s)?$/s) ?? [null, stream.detail];
  const told = stream.history.at(-1)?.at ?? stream.since;
  return { why, nextTry: wait === undefined ? null : told + Number(wait) };
}
