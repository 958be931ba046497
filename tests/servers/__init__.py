"""Real servers for tests: Kafka, InfluxDB, Prometheus, Alertmanager, a browser and a microphone without hardware.

A test asks for a server and gets one of its own, on loopback and a free port, with its data in a temporary folder:

    with KafkaServer() as kafka:
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)

A server is looked for in this order: an address in the environment (`STETHOS_TEST_KAFKA`, `STETHOS_TEST_INFLUXDB`,
`STETHOS_TEST_PROMETHEUS`, `STETHOS_TEST_ALERTMANAGER`), the cache folder, then it is built, and where that fails the
error names the missing tool. `scripts/install-servers` does everything beforehand. This module imports nothing, so that
building needs the standard library alone.
"""
