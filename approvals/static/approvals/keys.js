// Keys, the sheet that lists them, and the palette.
"use strict";
