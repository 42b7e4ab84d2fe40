/* Parameters and bodies as fields of a form. */

import { el } from "../dom.js";

/** What a `$ref` points to, within the document. */
export function resolved(thing, description) {
  if (!thing?.$ref) return thing ?? {};
  const { $ref, ...more } = thing;
  const target = $ref.slice(2).split("/").reduce((here, part) => here?.[part], description);
  return { ...resolved(target, description), ...more };
}

/** Text with `code` in it, as the documents write it. */
export function prose(text) {
  return text.split("`").map((piece, index) => (index % 2 ? el("code", {}, piece) : piece));
}

/** One parameter: its label and how to read and fill it. */
export class Field {
  constructor(parameter, description, id) {
    this.name = parameter.name;
    this.where = parameter.in;
    const json = parameter.content?.["application/json"]?.schema;
    const schema = resolved(json ?? parameter.schema, description);
    this.several = !json && schema.type === "array";
    this.input = control(schema, Boolean(json), this.several, parameter.required);
    const hint = [said(schema, Boolean(json)), parameter.description, schema.description].filter((part) => part && part !== "string").map((part) => part.replace(/\.$/, "")).join(". ");
    Object.assign(this.input, { id, name: parameter.name, required: Boolean(parameter.required) });
    this.input.setAttribute("aria-describedby", `${id}-hint`);
    const mark = parameter.required ? [el("abbr", { title: "required" }, "*")] : [];
    const name = el("label", { for: id }, el("code", {}, parameter.name), ...mark);
    this.root = el("div", { class: "field" }, name, this.input, el("p", { class: "docs__hint", id: `${id}-hint` }, ...prose(hint)));
  }

  /** The texts that are sent: none when it was left empty. */
  get texts() {
    const text = this.input.value;
    if (this.several) return text.split("\n").filter((line) => line.trim());
    return text === "" ? [] : [text];
  }

  fill(text) {
    this.input.value = text;
  }
}

function control(schema, json, several, required) {
  const choices = schema.type === "boolean" ? [true, false] : schema.enum;
  if (choices) {
    const text = (choice) => (json || typeof choice !== "string" ? JSON.stringify(choice) : choice);
    const none = required ? [] : [el("option", { value: "" }, schema.default === undefined ? "" : `default: ${text(schema.default)}`)];
    return el("select", {}, ...none, ...choices.map((choice) => el("option", { value: text(choice) }, text(choice))));
  }
  const plain = { autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: placeholder(schema) };
  return several ? el("textarea", { ...plain, rows: 2 }) : el("input", { ...plain, type: "text" });
}

function placeholder({ default: otherwise, examples }) {
  if (otherwise !== undefined) return typeof otherwise === "string" ? otherwise : JSON.stringify(otherwise);
  return examples?.length ? String(examples[0]) : "";
}

/** A schema in a few words: `integer, 1 to 365, default 30`. */
export function said(schema, json = false) {
  const several = schema.type === "array" && !json;
  const kinds = several ? "one a line" : [schema.type ?? (schema.anyOf ? "any of several" : "")].flat().join(" or ");
  const span = (low, high, unit) => (low === undefined && high === undefined ? "" : low === undefined ? `at most ${high}${unit}` : high === undefined ? `at least ${low}${unit}` : `${low} to ${high}${unit}`);
  const bounded = Math.abs(schema.minimum ?? 0) < 1e15 && Math.abs(schema.maximum ?? 0) < 1e15;
  const parts = [
    json ? `JSON: ${kinds || schema.enum?.map((choice) => JSON.stringify(choice)).join(", ")}` : kinds,
    schema.format,
    bounded ? span(schema.minimum, schema.maximum, "") : "",
    span(schema.minLength, schema.maxLength, " characters"),
    schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`,
  ];
  return parts.filter(Boolean).join(", ");
}

/** A body to begin with: what is required, and defaults as they are. */
export function example(schema, description) {
  const here = resolved(schema, description);
  if (here.default !== undefined) return here.default;
  if (here.examples?.length) return here.examples[0];
  if (here.enum) return here.enum[0];
  if (here.anyOf) return example(here.anyOf[0], description);
  const [type] = [here.type].flat();
  if (type === "object") return Object.fromEntries(Object.entries(here.properties ?? {}).map(([name, each]) => [name, example(each, description)]));
  if (type === "array") return here.items && !Array.isArray(here.items) ? [example(here.items, description)] : [];
  if (type === "integer" || type === "number") return Math.abs(here.minimum ?? 0) < 1e15 ? (here.minimum ?? 0) : 0;
  return type === "string" ? "" : type === "boolean" ? false : null;
}
