// Requests to the server that this page came from. The token goes with each as a header: not in an address, which ends
// up in logs and histories, and not in a cookie, which other pages could make the browser send.

const KEY = "vrseg.token";
const events = new EventTarget();

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export function useToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** `listener` is called when a request was refused for want of a token. */
export function onTokenWanted(listener) {
  events.addEventListener("token", listener);
}

/** Fetch a path of this server, from where the page is: a proxy may have put it anywhere. Throws Refused for any status but success, TypeError when nobody answers. */
export async function request(path, { method = "GET", body, signal } = {}) {
  const headers = new Headers();
  const token = sessionStorage.getItem(KEY);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  if (method !== "GET") headers.set("Content-Type", "application/json");
  const answer = await fetch(new URL(path, document.baseURI), {
    method, headers, signal, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.ok) return answer;
  if (answer.status === 401) events.dispatchEvent(new Event("token"));
  throw new Refused(answer.status, reasonIn(await answer.text(), answer.status));
}

/** Find the sentence for a person in an error's body. */
function reasonIn(text, status) {
  try {
    const { error, problems } = JSON.parse(text);
    if (!problems?.length) return error;
    return problems.map((one) => [one.path, one.message].filter(Boolean).join(": ")).join("\n");
  } catch {
    return text.trim() || `the server answered with status ${status}`;
  }
}

export const streamPath = (name, ending = "") => `api/v1/streams/${encodeURIComponent(name)}${ending}`;
export const previewPath = (name, ending, side) =>
  `preview/${encodeURIComponent(name)}${ending}${side ? `?side=${side}` : ""}`;

export const pause = (ms, signal) =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
