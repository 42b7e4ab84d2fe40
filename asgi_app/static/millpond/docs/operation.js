/* One operation: what it is, a form for what it takes, and what came of sending it. */

import { el, setText } from "../dom.js";
import { Answer } from "./answer.js";
import { Field, example, prose, resolved, said } from "./fields.js";

const SAFE = new Set(["GET", "HEAD"]);

export class OperationView {
  #api;
  #operation;
  #fields = [];
  #body = null;
  #abort = null;

  constructor(api, method, path, operation) {
    this.#api = api;
    this.#operation = operation;
    this.method = method;
    this.path = path;
    this.text = [method, path, operation.operationId, operation.summary, operation.description].join(" ").toLowerCase();
    const line = [el("span", { class: `method method--${method.toLowerCase()}` }, method), el("code", { class: "operation__path" }, path), el("span", { class: "operation__summary" }, ...prose(operation.summary))];
    this.root = el("details", { class: "operation", id: operation.operationId }, el("summary", {}, ...line));
    this.root.addEventListener("toggle", () => this.root.open && this.#draw());
  }

  /** Unfold it with these values in its fields, and go there. */
  open(values) {
    this.#draw();
    this.root.open = true;
    for (const field of this.#fields) if (values[field.name] !== undefined) field.fill(values[field.name]);
    this.root.scrollIntoView({ block: "start" });
    this.root.querySelector("summary").focus({ preventScroll: true });
  }

  #draw() {
    if (this.form) return;
    const { description } = this.#api;
    const { parameters = [], requestBody, operationId, responses } = this.#operation;
    this.#fields = parameters.map((each, index) => new Field(resolved(each, description), description, `${operationId}-${index}`));
    const inHeader = this.#fields.filter((field) => field.where === "header");
    const send = el("button", { class: "button", type: "submit" }, "Send");
    const stop = el("button", { class: "button button--quiet", type: "button", hidden: true }, "Stop");
    stop.addEventListener("click", () => this.#abort?.abort());
    this.form = el("form", { class: "operation__form", novalidate: true }, ...this.#fields.filter((field) => field.where !== "header").map((field) => field.root));
    if (inHeader.length) this.form.append(el("details", {}, el("summary", {}, "Headers"), ...inHeader.map((field) => field.root)));
    if (requestBody) this.form.append(this.#bodyField(requestBody.content["application/json"].schema));
    this.form.append(el("div", { class: "operation__buttons" }, send, stop));
    this.answer = new Answer(this.#api, responses);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(send, stop);
    });
    this.root.append(el("p", { class: "operation__doc" }, ...prose(this.#operation.description ?? "")), this.form, this.answer.root);
  }

  #bodyField(schema) {
    const id = `${this.#operation.operationId}-body`;
    const { properties = {}, required = [] } = resolved(schema, this.#api.description);
    const members = Object.entries(properties).map(([name, each]) => `${name}${required.includes(name) ? "*" : ""}: ${said(resolved(each, this.#api.description))}`);
    this.#body = el("textarea", { id, rows: Math.min(12, members.length + 2), spellcheck: "false", "aria-describedby": `${id}-hint` });
    this.#body.value = JSON.stringify(example(schema, this.#api.description), null, 2);
    return el("div", { class: "field" }, el("label", { for: id }, "Body"), this.#body, el("p", { class: "docs__hint", id: `${id}-hint` }, members.join("; ")));
  }

  /** Address, headers and body as they stand in the form. */
  #request() {
    const sent = { query: {}, path: {}, header: {} };
    const query = new URLSearchParams();
    const headers = {};
    let { path } = this;
    for (const field of this.#fields) {
      for (const text of field.texts) {
        sent[field.where][field.name] = text;
        if (field.where === "query") query.append(field.name, text);
        else if (field.where === "header") headers[field.name] = text;
        else path = path.replace(`{${field.name}}`, encodeURIComponent(text));
      }
    }
    const body = this.#body?.value.trim() || undefined;
    if (body) headers["Content-Type"] = "application/json";
    return { sent, headers, body, address: query.size ? `${path}?${query}` : path };
  }

  async #send(send, stop) {
    const missing = this.#fields.find((field) => field.input.required && !field.texts.length);
    if (missing) {
      missing.input.closest("details").open = true;
      missing.input.setAttribute("aria-invalid", "true");
      missing.input.focus();
      return;
    }
    for (const field of this.#fields) field.input.removeAttribute("aria-invalid");
    this.#abort?.abort();
    const abort = (this.#abort = new AbortController());
    const request = this.#request();
    stop.hidden = false;
    setText(send, "Send again");
    const options = { method: this.method, body: request.body, signal: abort.signal, cache: "no-store", ...this.#rights(request.headers) };
    await this.answer.show(request, options);
    if (this.#abort === abort) stop.hidden = true;
  }

  /** Who asks: the token, or the session with its CSRF token. */
  #rights(headers) {
    if (this.#api.token) return { headers: { ...headers, Authorization: `Bearer ${this.#api.token}` }, credentials: "omit" };
    const csrf = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie)?.[1];
    const name = this.#api.description.components.securitySchemes.csrf.name;
    return { headers: csrf && !SAFE.has(this.method) ? { ...headers, [name]: csrf } : headers, credentials: "same-origin" };
  }
}
