// Reads a page again until what it waits for is there.
"use strict";

if (document.querySelector("[data-pending]")) setTimeout(() => location.reload(), 2000);
