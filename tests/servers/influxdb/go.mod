// Builds the InfluxDB 2 server that the tests run against; see ../build.py.
module stethos/tests/servers/influxdb

go 1.26

require github.com/influxdata/influxdb/v2 v2.9.1
