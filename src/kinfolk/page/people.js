// The citizens of one import: found, shown some at a time, and corrected.

import { correct } from "./api.js";
import { counted, element, find, plain, problemBox } from "./dom.js";

const SHOWN_AT_ONCE = 20;

let open = { number: null, etag: null, citizens: [] };
let found = [];
let shownCount = SHOWN_AT_ONCE;

// Of a correction `changed(citizen, change, etag)` is told when it went well, `stale()` when it came too late, and
// `refused(refusal)` when it was refused otherwise.
export function showPeople(number, { data, etag }, told) {
  open = { number, etag, citizens: data, ...told };
  search();
}

export function listenForSearch() {
  find("search").addEventListener("input", search);
  find("more").addEventListener("click", () => {
    const firstNew = shownCount;
    shownCount += SHOWN_AT_ONCE;
    draw();
    find("citizens").children[firstNew]?.querySelector("button").focus();
  });
}

function search() {
  const words = find("search").value.trim().toLocaleLowerCase();
  found = !words ? open.citizens : open.citizens.filter((citizen) =>
    String(citizen.citizen_id) === words || `${citizen.name}\n${citizen.town}`.toLocaleLowerCase().includes(words));
  shownCount = SHOWN_AT_ONCE;
  draw();
}

function draw() {
  find("citizens").replaceChildren(...found.slice(0, shownCount).map(row));
  find("more").hidden = found.length <= shownCount;
  find("shown").textContent = found.length === 0 ? "Nobody is found."
    : `${plain(Math.min(shownCount, found.length))} of ${plain(found.length)}`;
}

function row(citizen) {
  const line = element("li", {});
  const kin = citizen.relatives.length;
  const edit = element("button", { type: "button", class: "quiet", "aria-label": `Correct ${citizen.name}` }, "Correct");
  edit.addEventListener("click", () => {
    const form = correction(citizen, line);
    line.replaceChildren(form);
    form.querySelector("input").focus();
  });
  line.append(element("div", { class: "person" },
    element("span", { class: "id" }, String(citizen.citizen_id)),
    element("div", {}, element("b", {}, citizen.name),
      element("span", { class: "facts" }, [citizen.town, `born ${citizen.birth_date}`,
        kin ? counted(kin, "relative", "relatives") : "no relatives"].join(" · "))),
    edit));
  return line;
}

function correction(citizen, line) {
  const name = element("input", { required: true, maxlength: "256", autocomplete: "off", value: citizen.name });
  const town = element("input", { required: true, maxlength: "256", autocomplete: "off", value: citizen.town });
  const save = element("button", { type: "submit" }, "Save");
  const cancel = element("button", { type: "button", class: "quiet" }, "Cancel");
  const form = element("form", { class: "correct", "aria-label": `Correct citizen ${citizen.citizen_id}` },
    element("label", {}, "Name", name), element("label", {}, "Town", town),
    element("div", { class: "line" }, save, cancel));

  const close = (shown) => {
    const fresh = row(shown);
    line.replaceWith(fresh);
    fresh.querySelector("button").focus();
  };
  cancel.addEventListener("click", () => close(citizen));
  form.addEventListener("keydown", (event) => event.key === "Escape" && close(citizen));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const change = {};
    if (name.value !== citizen.name) change.name = name.value;
    if (town.value !== citizen.town) change.town = town.value;
    if (Object.keys(change).length === 0) return close(citizen);
    save.disabled = true;
    const { number, changed, stale, refused } = open;
    try {
      const { data, etag } = await correct(number, citizen.citizen_id, change, open.etag);
      if (open.number !== number) return;
      open.etag = etag;
      Object.assign(citizen, data);
      close(citizen);
      changed(citizen, change, etag);
    } catch (refusal) {
      if (refusal.status === 412) return stale();
      save.disabled = false;
      form.querySelector(".problem")?.remove();
      form.append(problemBox(refusal));
      refused(refusal);
    }
  });
  return form;
}
