//go:build tools

// Package influxdb names the server command, so that go.mod and go.sum pin it and everything it needs.
package influxdb

import _ "github.com/influxdata/influxdb/v2/cmd/influxd"
