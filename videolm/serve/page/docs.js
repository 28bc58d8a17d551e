// What /openapi.json says, to read.

const make = (tag, text, ...children) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};

const kind = (schema) => schema.enum?.join(" | ") ?? schema.const ?? schema.anyOf?.map(kind).filter((each) => each !== "null").join(" or ") ?? schema.format ?? schema.type ?? "";

function table(rows) {
  const body = rows.map(([name, schema, about]) => make("tr", "", make("th", name), make("td", kind(schema)), make("td", about ?? "")));
  return make("table", "", make("tbody", "", ...body));
}

const api = await (await fetch("/openapi.json")).json();
document.getElementById("about").textContent = api.info.description;
for (const [path, operations] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const section = make("section", "", make("h2", `${method.toUpperCase()} ${path}`), make("p", operation.summary));
    const parameters = (operation.parameters ?? []).map((each) => [each.name, each.schema, each.description]);
    if (parameters.length) section.append(table(parameters));
    for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
      const fields = Object.entries(schema.properties).map(([name, each]) => [name, each, each.description]);
      const details = make("details", "", make("summary", type), table(fields));
      details.open = !document.querySelector("details");
      section.append(details);
    }
    document.getElementById("operations").append(section);
  }
}
