// Renders /openapi.json: operations by tag, their parameters, bodies and answers.
const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function resolve(api, schema) {
  if (!schema?.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
}

function typeName(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" | ");
  if (schema.type === "array") return `${typeName(schema.items) || "any"}[]`;
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  return schema.format ?? schema.type ?? "any";
}

function rows(head, lines) {
  const table = element("table", {}, element("tr", {}, ...head.map((word) => element("th", {}, word))));
  for (const line of lines) table.append(element("tr", {}, ...line.map((cell) => element("td", {}, cell))));
  return table;
}

function fields(api, schema) {
  const resolved = resolve(api, schema);
  if (!resolved?.properties) return element("code", {}, typeName(schema));
  const required = new Set(resolved.required ?? []);
  return rows(
    ["field", "type", ""],
    Object.entries(resolved.properties).map(([name, property]) => [
      element("code", {}, required.has(name) ? name : `${name}?`),
      element("code", {}, typeName(property)),
      property.description ?? "",
    ]),
  );
}

function operation(api, path, method, described) {
  const box = element(
    "details",
    { id: described.operationId },
    element("summary", {}, element("b", {}, method.toUpperCase()), element("code", {}, path), ` ${described.summary ?? ""}`),
  );
  if (described.description) box.append(element("p", {}, described.description));
  if (described.parameters?.length) {
    box.append(
      rows(
        ["parameter", "type", ""],
        described.parameters.map((parameter) => [
          element("code", {}, `${parameter.name}${parameter.required ? "" : "?"} (${parameter.in})`),
          element("code", {}, typeName(parameter.schema)),
          parameter.description ?? parameter.schema?.description ?? "",
        ]),
      ),
    );
  }
  const body = described.requestBody?.content?.["application/json"]?.schema;
  if (body) box.append(element("h3", {}, `Body: ${typeName(body)}`), fields(api, body));
  for (const [status, answer] of Object.entries(described.responses ?? {})) {
    const schema = Object.values(answer.content ?? {})[0]?.schema;
    box.append(element("p", {}, element("b", {}, status), ` ${answer.description} `, element("code", {}, typeName(schema))));
    if (schema && status.startsWith("2")) box.append(fields(api, schema));
  }
  return box;
}

function render(api, word) {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      const described = item[method];
      if (!described) continue;
      const text = `${method} ${path} ${described.summary} ${described.description}`.toLowerCase();
      if (!text.includes(word)) continue;
      const tag = described.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), operation(api, path, method, described)]);
    }
  }
  const main = document.getElementById("operations");
  main.replaceChildren(...[...groups].flatMap(([tag, found]) => [element("h2", {}, tag), ...found]));
  if (groups.size === 0) main.textContent = "Nothing fits the filter.";
}

const api = await (await fetch("/openapi.json")).json();
const filter = document.getElementById("filter");
filter.addEventListener("input", () => render(api, filter.value.trim().toLowerCase()));
render(api, "");
