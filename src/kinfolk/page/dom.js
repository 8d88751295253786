// Small pieces of page: elements, and a refusal shown so that its reader can act on it.

export const find = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const thousands = new Intl.NumberFormat("en");

export const plain = (number) => (typeof number === "number" ? thousands.format(number) : String(number));

export const counted = (number, one, many) => `${plain(number)} ${number === 1 ? one : many}`;

// "/citizens/3/relatives/0" is "4th citizen of the file, relatives, 1st entry".
export function inWords(pointer) {
  const steps = pointer.split("/").slice(1).map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  if (steps.length === 0) return "The whole document";
  const words = [];
  if (steps[0] === "citizens" && /^\d+$/.test(steps[1] ?? "")) {
    words.push(`${ordinal(Number(steps[1]) + 1)} citizen of the file`);
    steps.splice(0, 2);
  }
  return words.concat(steps.map((step) => (/^\d+$/.test(step) ? `${ordinal(Number(step) + 1)} entry` : step))).join(", ");
}

function ordinal(number) {
  const teens = number % 100 >= 11 && number % 100 <= 13;
  return plain(number) + (teens ? "th" : ({ 1: "st", 2: "nd", 3: "rd" }[number % 10] ?? "th"));
}

const FIRST_SHOWN = 50;

export function problemBox(refusal) {
  const { title, detail, errors = [], error_count: count = errors.length } = refusal.problem;
  const box = element("div", { class: "problem", role: "alert" }, element("strong", {}, title));
  if (detail) box.append(element("p", {}, detail));
  if (errors.length === 0) return box;

  const places = element("ol", { tabindex: "0", "aria-label": "Bad places" });
  const show = (some) => {
    for (const { pointer, detail: why } of some) {
      places.append(element("li", {}, element("span", {}, `${inWords(pointer)}: ${why}`), element("code", {}, pointer)));
    }
  };
  show(errors.slice(0, FIRST_SHOWN));
  box.append(element("p", {}, `${counted(count, "place", "places")} to put right:`), places);
  if (errors.length > FIRST_SHOWN) {
    const more = element("button", { type: "button", class: "quiet" }, `Show all ${plain(errors.length)}`);
    more.addEventListener("click", () => {
      show(errors.slice(FIRST_SHOWN));
      more.remove();
      places.focus();
    });
    box.append(more);
  }
  if (count > errors.length) box.append(element("p", { class: "hint" }, `${plain(count - errors.length)} more are not listed.`));
  return box;
}
