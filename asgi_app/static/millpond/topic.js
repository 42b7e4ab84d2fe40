/* Names of topics and the addresses of the same resource over HTTP. */

/** `name?b=1&c=x`: parameters sorted, defaults left out, as the server spells the canonical topic. */
export function topicOf(name, parameters = {}, defaults = {}) {
  const given = Object.entries(parameters).filter(([key, value]) => String(value) !== String(defaults[key]));
  const query = given.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`);
  return query.length ? `${name}?${query.join("&")}` : name;
}

export const valueAddress = (topic) => `/api/v1/resources/${topic}`;
export const streamAddress = (topic) => `/api/v1/events?topic=${encodeURIComponent(topic)}`;
