// The start page: bring a register or open an import, then see its answers.

import { birthdaysOf, citizensOf, logIn, paths, Refusal, saved, townsOf, upload } from "./api.js";
import { listenForOrder, showPresents, showTowns } from "./answers.js";
import { counted, element, find, plain, problemBox } from "./dom.js";
import { listenForSearch, showPeople } from "./people.js";

let latest = 0;

const tell = (words) => { find("news").textContent = words; };

function askWho(refusal) {
  if (refusal.status !== 401) return;
  find("login-form").hidden = false;
  find("login-title").focus();
}

function showProblem(place, refusal) {
  if (!(refusal instanceof Refusal)) throw refusal;
  askWho(refusal);
  find(place).replaceChildren(problemBox(refusal));
}

async function openImport(number, greeting = "") {
  const mine = ++latest;
  find("open-problem").replaceChildren();
  find("import-number").value = number;
  tell(`Opening import ${number} …`);
  try {
    const [people, towns, birthdays] = await Promise.all([citizensOf(number), townsOf(number), birthdaysOf(number)]);
    if (mine !== latest) return;
    find("import-title").textContent = `Import ${number}: ${counted(people.data.length, "citizen", "citizens")}`;
    find("raw-citizens").href = paths.citizens(number);
    find("raw-towns").href = paths.towns(number);
    find("raw-birthdays").href = paths.birthdays(number);
    showTowns(towns.data);
    showPresents(birthdays.data);
    find("search").value = "";
    showPeople(number, people, {
      changed: (...news) => corrected(number, ...news), stale: () => reload(number), refused: askWho,
    });
    document.title = `Import ${number} · Kinfolk`;
    find("answers").hidden = false;
    find("import-title").focus({ preventScroll: !greeting });
    tell(greeting);
  } catch (refusal) {
    if (mine !== latest) return;
    find("answers").hidden = true;
    document.title = "Kinfolk";
    tell("");
    showProblem("open-problem", refusal);
  }
}

const reload = (number) => openImport(number, "Somebody else changed this import meanwhile. Here is how it stands now.");

async function corrected(number, citizen, change, etag) {
  const words = `Citizen ${citizen.citizen_id} is corrected.`;
  // Without the new version, the next correction could not tell whether it comes too late.
  if (!etag) return openImport(number, words);
  tell(words);
  find("citizens-problem").replaceChildren();
  if (!("town" in change)) return;
  const mine = latest;
  try {
    const towns = await townsOf(number);
    if (mine === latest) showTowns(towns.data);
  } catch (refusal) {
    showProblem("citizens-problem", refusal);
  }
}

async function bring(file) {
  const box = find("progress-box");
  const words = find("progress-words");
  const problem = find("upload-problem");
  problem.replaceChildren();
  find("drop").classList.add("busy");
  find("file").disabled = true;
  box.hidden = false;
  const size = file.size < 1e5 ? `${plain(Math.ceil(file.size / 1e3))} kB` : `${(file.size / 1e6).toFixed(1)} MB`;
  words.textContent = `Sending ${file.name} (${size})`;
  find("progress").value = 0;
  try {
    const number = await upload(file, (share) => {
      find("progress").value = share;
      if (share < 1) return;
      find("progress").removeAttribute("value");
      words.textContent = "Sent; the service checks it";
    });
    history.pushState(null, "", `?import=${number}`);
    await openImport(number, `${file.name} is import ${number}.`);
  } catch (refusal) {
    showProblem("upload-problem", refusal);
    if (refusal.status === 0 || refusal.status === 401 || refusal.status >= 500) {
      problem.append(element("p", {}, element("button", { type: "button", onclick: () => bring(file) }, "Send it again")));
    }
  } finally {
    box.hidden = true;
    find("drop").classList.remove("busy");
    find("file").disabled = false;
    find("file").value = "";
  }
}

// A link carries no token, so what it leads to is fetched with it and saved.
async function save(event, link) {
  event.preventDefault();
  try {
    const document = await saved(link.href);
    if (document === null) return location.assign(link.href);
    const address = URL.createObjectURL(document);
    element("a", { href: address, download: `${link.textContent}.json` }).click();
    URL.revokeObjectURL(address);
  } catch (refusal) {
    showProblem("open-problem", refusal);
  }
}

function followAddress() {
  const number = new URLSearchParams(location.search).get("import") ?? "";
  if (/^\d{1,19}$/.test(number)) return openImport(number);
  latest += 1;
  find("answers").hidden = true;
  document.title = "Kinfolk";
  tell("");
}

function listen() {
  find("file").addEventListener("change", (event) => event.target.files[0] && bring(event.target.files[0]));
  const drop = find("drop");
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  // A file that misses the field must not replace the page.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer?.files[0];
    if (file && drop.contains(event.target) && !find("file").disabled) bring(file);
  });
  find("open-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const number = find("import-number").value.trim();
    history.pushState(null, "", `?import=${number}`);
    openImport(number);
  });
  find("login-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    find("login-problem").replaceChildren();
    try {
      await logIn(find("username").value, find("password").value);
    } catch (refusal) {
      showProblem("login-problem", refusal);
      return;
    } finally {
      find("password").value = "";
    }
    find("login-form").hidden = true;
    followAddress();
  });
  for (const link of document.querySelectorAll(".raw a")) link.addEventListener("click", (event) => save(event, link));
  window.addEventListener("popstate", followAddress);
  listenForOrder();
  listenForSearch();
}

listen();
followAddress();
