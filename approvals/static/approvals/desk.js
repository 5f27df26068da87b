// Who else is here: claims, presence, notes.
"use strict";
