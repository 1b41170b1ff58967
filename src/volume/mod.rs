//! The data path: route, intent, change maps, gate, cut, fan-out, read choice.
