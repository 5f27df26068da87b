// The list: selecting rows, and new ones that do not move what is being read.
"use strict";
