"use strict";
const tip = (parent) => { const t = document.createElement("div"); t.className = "tip"; t.hidden = true; return parent.appendChild(t); };

// Curves: a cursor at the nearest step, and the values there.
for (const svg of document.querySelectorAll("svg[data-values]")) {
  const series = Object.entries(JSON.parse(svg.dataset.values)), view = svg.viewBox.baseVal, box = tip(svg.parentElement);
  const cursor = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
  cursor.setAttribute("class", "cursor");
  svg.onpointermove = (event) => {
    const frame = svg.getBoundingClientRect(), x = (event.clientX - frame.left) / frame.width * view.width;
    const near = series.map(([name, points]) => [name, points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)]);
    const at = near[0][1];
    cursor.setAttribute("d", "M" + at[0] + " 10V166");
    box.textContent = svg.dataset.x + " " + at[2] + near.map(([name, p]) => "\n" + (series.length > 1 ? name + " " : "") + p[3]).join("");
    box.hidden = false;
    const parent = svg.parentElement.getBoundingClientRect(), left = frame.left - parent.left + at[0] / view.width * frame.width;
    box.style.top = frame.top - parent.top + "px";
    box.style.left = (at[0] > view.width / 2 ? left - box.offsetWidth - 8 : left + 8) + "px";
  };
  svg.onpointerleave = () => { box.hidden = true; cursor.removeAttribute("d"); };
}

// Choices: of all that is laid out, show what the buttons say.
for (const choose of document.querySelectorAll(".choose")) choose.onchange = () => {
  const wanted = [...choose.querySelectorAll("input:checked")].map((input) => input.value).join(" ");
  for (const view of choose.parentElement.querySelectorAll("[data-choice]")) view.hidden = view.dataset.choice !== wanted;
};

// Map: the nearest point's photo and caption; a key of the legend picks its points out.
const map = document.querySelector(".map");
if (map) {
  const points = [...map.children], box = document.querySelector(".atlas .tip"), buttons = [...document.querySelectorAll("[data-colour]")];
  map.onpointermove = (event) => {
    const frame = map.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
    const far = (p) => Math.hypot(parseFloat(p.style.left) * frame.width / 100 - x, parseFloat(p.style.top) * frame.height / 100 - y);
    const shown = map.classList.contains("dim") ? points.filter((p) => p.classList.contains("chosen")) : points;
    const p = shown.reduce((a, b) => far(b) < far(a) ? b : a, shown[0]);
    box.hidden = !p || far(p) > 24;
    if (box.hidden) return;
    box.lastChild.textContent = p.dataset.caption;
    for (const name of ["--c", "--r"]) box.firstChild.style.setProperty(name, p.style.getPropertyValue(name));
    box.style.left = map.offsetLeft + Math.min(x + 16, Math.max(frame.width - 170, 0)) + "px";
    box.style.top = map.offsetTop + Math.max(y - 60, 0) + "px";
  };
  map.onpointerleave = () => { box.hidden = true; };
  document.querySelector(".switch input").onchange = (event) => map.classList.toggle("photos", event.target.checked);
  for (const button of buttons) button.onclick = () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const other of buttons) other.setAttribute("aria-pressed", on && other === button);
    map.classList.toggle("dim", on);
    for (const p of points) p.classList.toggle("chosen", on && p.classList.contains(button.dataset.colour));
  };
}
