"use strict";
// Shows openapi.json. Everything is written as text; nothing of the document is ever markup.
const all = document.getElementById("all");
const find = document.getElementById("find");

function element(name, text, ...inside) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...inside);
  return made;
}

// A schema as an example-like outline: names, types and descriptions, definitions resolved once per way down.
function outline(schema, types, above, indent) {
  if (!schema || typeof schema !== "object") return "any";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    if (above.includes(name)) return name;
    return outline(types[name], types, [...above, name], indent);
  }
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  for (const several of ["anyOf", "oneOf"]) {
    if (schema[several]) return schema[several].map((one) => outline(one, types, above, indent)).join(" | ");
  }
  if (schema.properties) {
    const required = schema.required || [];
    const inner = indent + "  ";
    const lines = Object.entries(schema.properties).map(([name, one]) => {
      const says = one.description ? "  // " + one.description.replaceAll("\n", " ") : "";
      return inner + name + (required.includes(name) ? "" : "?") + ": " + outline(one, types, above, inner) + says;
    });
    return "{\n" + lines.join("\n") + "\n" + indent + "}";
  }
  if (schema.type === "array") return "[" + outline(schema.items, types, above, indent) + "]";
  if (schema.additionalProperties) return "{ name: " + outline(schema.additionalProperties, types, above, indent) + " }";
  const kind = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type || "any";
  return schema.format ? kind + " (" + schema.format + ")" : kind;
}

function contents(content, types) {
  return Object.entries(content || {}).flatMap(([media, one]) => [
    element("p", null, element("code", media)),
    element("pre", outline(one.schema, types, [], "")),
  ]);
}

function operation(path, method, op, types) {
  const shown = element("details", null,
    element("summary", null, element("b", method.toUpperCase()), element("code", path), element("span", op.summary)));
  shown.append(element("p", op.description));
  if (op.parameters.length) {
    const rows = op.parameters.map((one) => element("tr", null,
      element("td", null, element("code", one.name)), element("td", one.in), element("td", one.description || "")));
    shown.append(element("table", null, element("tbody", null, ...rows)));
  }
  if (op.requestBody) shown.append(element("h3", "Takes"), ...contents(op.requestBody.content, types));
  for (const [status, answer] of Object.entries(op.responses)) {
    if (status === "default") continue;
    shown.append(element("h3", status + ": " + answer.description), ...contents(answer.content, types));
  }
  shown.dataset.text = (method + " " + path + " " + op.summary + " " + op.operationId).toLowerCase();
  return shown;
}

function show(description) {
  const types = description.components.schemas;
  all.replaceChildren();
  for (const tag of description.tags) {
    const section = element("section", null, element("h2", tag.name), element("p", tag.description));
    for (const [path, item] of Object.entries(description.paths)) {
      for (const [method, op] of Object.entries(item)) {
        if (op.tags.includes(tag.name)) section.append(operation(path, method, op, types));
      }
    }
    all.append(section);
  }
}

find.addEventListener("input", () => {
  const wanted = find.value.toLowerCase();
  for (const section of all.querySelectorAll("section")) {
    let some = false;
    for (const one of section.querySelectorAll("details")) {
      one.hidden = !one.dataset.text.includes(wanted);
      some = some || !one.hidden;
    }
    section.hidden = !some;
  }
});

fetch("openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => all.replaceChildren(element("p", "The description did not come: " + error)));
