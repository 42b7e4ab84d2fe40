// The driver in Node: orders come as lines on stdin, what is told goes out as lines on stdout.
//
// Its argument is the folder that holds node_modules.  What no one has caught is told as {fault}.
"use strict";

const path = require("node:path");
const readline = require("node:readline");
const { makeDriver, showing } = require("./driver.js");

const brought = require("node:module").createRequire(path.join(process.argv[2], "package.json"));
const WebSocket = brought("ws");
const tell = (message) => process.stdout.write(JSON.stringify(message) + "\n");

for (const event of ["uncaughtException", "unhandledRejection"])
  process.on(event, (error) => tell({ fault: `${event}: ${error?.stack ?? JSON.stringify(error)}` }));

const versions = Object.fromEntries(
  ["5.7.4", "5.8.0"].map((version) => [version, brought(`centrifuge-${version}`).Centrifuge]),
);
const parts = { eventsource: brought("eventsource"), fetch, readableStream: ReadableStream };
// centrifuge calls `new websocket(endpoint)` or `new websocket(endpoint, protocols)`
const socket = (headers, show) => showing(WebSocket, (endpoint, rest) => [endpoint, rest[0] ?? [], { headers }], show);
const take = makeDriver(versions, parts, socket, tell);

readline.createInterface({ input: process.stdin }).on("line", (line) => take(JSON.parse(line)));
process.stdin.on("end", () => process.exit(0));
tell({ ready: true });
