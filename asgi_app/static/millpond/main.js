/* The start of the page: one connection, the demo's panels where there is a demo, and a panel for everything else. */

import "./theme.js";
import { showConnection } from "./connection.js";
import { startDeclared } from "./declared.js";
import { startDemo } from "./demo.js";
import { showToasts } from "./toast.js";
import { tellWhenHidden } from "./hidden.js";
import { Live } from "./live.js";

const { websocket, demo } = document.body.dataset;
const live = new Live(websocket);
showConnection(live);
showToasts();
const shown = demo === "yes" ? startDemo(live) : new Set();
live.connect();
tellWhenHidden(live);
startDeclared(live, shown);
