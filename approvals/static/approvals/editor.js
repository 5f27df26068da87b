// What is typed is kept on the server within a second; saved replies, hints, earlier versions.
"use strict";
