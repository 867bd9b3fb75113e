module slipway/bench/load

go 1.22
