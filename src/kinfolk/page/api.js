// The contract's routes, and refusals as objects. The token lives in this window's memory only.

let token = "";

export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.title);
    this.status = status;
    this.problem = problem;
  }
}

export async function logIn(username, password) {
  token = "";
  const { data } = await ask("api/v1/user/auth", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ username, password }),
  });
  token = data.access_token;
}

// What a link leads to, for one whose browser would not show the token there; null where the link will do.
export async function saved(path) {
  if (!token) return null;
  let answer, found;
  try {
    answer = await fetch(path, { headers: { Accept: "application/json", ...identity() } });
    found = await answer.blob();
  } catch {
    throw lost();
  }
  if (!answer.ok) throw refusal(answer.status, await found.text());
  return found;
}

function identity() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function refusal(status, text) {
  let problem = null;
  try {
    problem = JSON.parse(text);
  } catch {
    // Something between us and the service answered in its own words.
  }
  if (!problem || typeof problem.title !== "string") {
    problem = { title: `The service answered ${status}, and not in words that this page understands.` };
  }
  return new Refusal(status, problem);
}

const lost = () =>
  new Refusal(0, { title: "The connection was lost.", detail: "Is the service still running? Trying again is safe." });

// Ids go up to 2^63 - 1 and JavaScript's numbers only to 2^53: longer ones become strings, outside of strings.
function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|\d{16,}/g, (part) => (part[0] === '"' ? part : `"${part}"`)));
}

async function ask(path, options = {}) {
  let answer, text;
  try {
    answer = await fetch(path, { ...options, headers: { Accept: "application/json", ...identity(), ...options.headers } });
    text = await answer.text();
  } catch {
    throw lost();
  }
  if (!answer.ok) throw refusal(answer.status, text);
  try {
    return { data: parse(text).data, etag: answer.headers.get("ETag") };
  } catch {
    throw refusal(answer.status, text);
  }
}

export const paths = {
  citizens: (number) => `api/v1/imports/${number}/citizens`,
  birthdays: (number) => `api/v1/imports/${number}/citizens/birthdays`,
  towns: (number) => `api/v1/imports/${number}/towns/stat/percentile/age`,
};

export const citizensOf = (number) => ask(paths.citizens(number));
export const birthdaysOf = (number) => ask(paths.birthdays(number));
export const townsOf = (number) => ask(paths.towns(number));

export function correct(number, citizenId, change, etag) {
  return ask(`${paths.citizens(number)}/${citizenId}`, {
    method: "PATCH",
    headers: { "Content-Type": "application/json", ...(etag && { "If-Match": etag }) },
    body: JSON.stringify(change),
  });
}

const keys = new WeakMap();

// One key for one file, however often it is sent: the service takes it once.
function keyOf(file) {
  if (!keys.has(file)) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    keys.set(file, Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""));
  }
  return keys.get(file);
}

// XMLHttpRequest, because fetch does not tell how much has been sent.
export function upload(file, sent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "api/v1/imports");
    const headers = { Accept: "application/json", "Content-Type": "application/json", "Idempotency-Key": keyOf(file) };
    if (file.name.endsWith(".gz")) headers["Content-Encoding"] = "gzip";
    for (const [name, value] of Object.entries({ ...headers, ...identity() })) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => sent(event.loaded / Math.max(event.total, 1));
    request.upload.onload = () => sent(1);
    request.onerror = () => reject(lost());
    request.onload = () => {
      if (request.status !== 201) return reject(refusal(request.status, request.responseText));
      try {
        resolve(String(parse(request.responseText).data.import_id));
      } catch {
        reject(refusal(request.status, request.responseText));
      }
    };
    request.send(file);
  });
}
