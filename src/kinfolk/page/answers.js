// The answers for one import: how old the towns are, presents by month.

import { element, find, plain } from "./dom.js";

const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
  "November", "December"];
const SVG = "http://www.w3.org/2000/svg";

let towns = [];
let order = { key: "town", direction: 1 };

export function showTowns(answer) {
  towns = answer;
  drawTowns();
}

function drawTowns() {
  const { key, direction } = order;
  const compare = key === "town" ? (a, b) => a.town.localeCompare(b.town) : (a, b) => a[key] - b[key];
  const rows = [...towns].sort((a, b) => direction * compare(a, b)).map((town) =>
    element("tr", {}, element("th", { scope: "row" }, town.town),
      ...["p50", "p75", "p99"].map((name) => element("td", { class: "number" }, town[name].toFixed(2)))));
  if (rows.length === 0) rows.push(element("tr", {}, element("td", { colspan: "4" }, "Nobody lives in this import.")));
  find("towns").tBodies[0].replaceChildren(...rows);
  for (const button of find("towns").querySelectorAll("th button")) {
    const heading = button.closest("th");
    if (button.dataset.key !== key) heading.removeAttribute("aria-sort");
    else heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  }
}

export function listenForOrder() {
  find("towns").tHead.addEventListener("click", (event) => {
    const key = event.target.closest("button")?.dataset.key;
    if (!key) return;
    order = { key, direction: key === order.key ? -order.direction : 1 };
    drawTowns();
  });
}

export function showPresents(answer) {
  const months = MONTHS.map((name, index) => {
    const buyers = answer[String(index + 1)];
    return { name, presents: buyers.reduce((sum, { presents }) => sum + presents, 0), buyers: buyers.length };
  });
  const most = Math.max(1, ...months.map(({ presents }) => presents));
  find("bars").replaceChildren(...months.map((month) => bar(month, month.presents / most)));
  find("presents").tBodies[0].replaceChildren(...months.map(({ name, presents, buyers }) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "number" }, plain(presents)),
      element("td", { class: "number" }, plain(buyers)))));
  const total = months.reduce((sum, { presents }) => sum + presents, 0);
  find("presents").tFoot.replaceChildren(element("tr", {}, element("th", { scope: "row" }, "The year"),
    element("td", { class: "number" }, plain(total)), element("td", {})));
}

function bar({ name, presents }, share) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 10 100");
  drawing.setAttribute("preserveAspectRatio", "none");
  const rectangle = document.createElementNS(SVG, "rect");
  const height = presents === 0 ? 0 : Math.max(1, 100 * share);
  for (const [key, value] of Object.entries({ x: 0, width: 10, y: 100 - height, height })) rectangle.setAttribute(key, value);
  drawing.append(rectangle);
  return element("div", { title: `${name}: ${plain(presents)}` }, drawing, element("span", {}, name.slice(0, 1)));
}
