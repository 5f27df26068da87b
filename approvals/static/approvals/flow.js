// Next, decide and undo without waiting: what comes next was fetched ahead.
"use strict";
