"""The engine `kafka`: the same lanes, fed by Faust workers from Apache Kafka. Only this package imports faust."""
