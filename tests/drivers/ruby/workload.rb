# frozen_string_literal: true

# The workload of ../workload.md with the Ruby driver. It has no exhaust cursors.

require 'json'
require 'mongo'

# Writes each command event to a file, as one JSON object a line.
class Recorder
  def initialize(path)
    @file = File.open(path, 'w')
    @lock = Mutex.new
  end

  def started(event)
    write('commandStartedEvent', event, 'command' => canonical(event.command))
  end

  def succeeded(event)
    write('commandSucceededEvent', event, 'durationMicros' => micros(event), 'reply' => canonical(event.reply))
  end

  def failed(event)
    failure = event.respond_to?(:failure) && event.failure ? canonical(event.failure) : event.message
    write('commandFailedEvent', event, 'durationMicros' => micros(event), 'failure' => failure)
  end

  private

  # Commands hold GridFS objects, which are documents only once they are serialized.
  def canonical(document)
    bytes = BSON::ByteBuffer.new(document.to_bson.to_s)
    unbroken(bytes.get_hash(mode: :bson).as_extended_json)
  end

  # Takes the line breaks out of base64, which Extended JSON has not and the bson gem has.
  def unbroken(value)
    case value
    when Hash then value.to_h { |key, each| [key, key == 'base64' && each.is_a?(String) ? each.delete("\n") : unbroken(each)] }
    when Array then value.map { |each| unbroken(each) }
    else value
    end
  end

  def micros(event)
    (event.duration * 1_000_000).floor
  end

  def write(name, event, more)
    line = { 'event' => name, 'commandName' => event.command_name.to_s, 'databaseName' => event.database_name,
             'requestId' => event.request_id }
    line['serverConnectionId'] = event.server_connection_id if event.respond_to?(:server_connection_id)
    text = JSON.generate(line.merge(more))
    @lock.synchronize do
      @file.puts(text)
      @file.flush
    end
  end
end

# The workload's steps, each method one of them.
class Workload
  attr_reader :operations

  def initialize(client)
    @client = client
    @db = client.database
    @operations = 0
    @lock = Mutex.new
  end

  def run
    start
    writes
    unacknowledged
    reads
    aggregates
    changes
    schema
    failures
    size_and_concurrency
    files
  end

  private

  # Counts an operation whose result is the wanted one; raises where it is not.
  def expect(what, got, wanted)
    raise "#{what}: got #{got.inspect[0, 500]}, wanted #{wanted.inspect[0, 500]}" unless got == wanted

    @lock.synchronize { @operations += 1 }
  end

  # The code of a server's error: older versions of the driver have it in the message alone, at its end.
  def code(error)
    error.respond_to?(:code) ? error.code : error.message.scan(/\((\d+)\)/).last.first.to_i
  end

  # Runs an operation that fails, and gives the error.
  def failure(what)
    yield
  rescue Mongo::Error::OperationFailure, Mongo::Error::BulkWriteError => e
    e
  else
    raise "#{what}: did not fail"
  end

  # Reads until an unacknowledged write has taken effect.
  def until_read(what, wanted)
    limit = now + 5
    got = yield
    while got != wanted && now < limit
      sleep 0.02
      got = yield
    end
    expect(what, got, wanted)
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def collection(name)
    @client[name]
  end

  # With this driver's `count_documents` where it has one, with the `count` command in the driver's older versions.
  def count(name, filter = {})
    view = collection(name).find(filter)
    view.respond_to?(:count_documents) ? view.count_documents : view.count
  end

  def start
    expect('ping', @client.use('admin').database.command(ping: 1).first['ok'], 1.0)
    @db.drop
  end

  def writes
    expect('insert one', collection('single').insert_one(_id: 1, text: 'one').n, 1)
    items = Array.new(250) { |i| { _id: i, n: i, group: i % 5, name: "item-#{i}" } }
    expect('insert many', collection('items').insert_many(items).inserted_count, 250)

    result = collection('bulk').bulk_write([
      { insert_one: { _id: 1, v: 1 } },
      { insert_one: { _id: 2, v: 2 } },
      { insert_one: { _id: 3, v: 3 } },
      { update_one: { filter: { _id: 1 }, update: { '$set' => { v: 10 } } } },
      { update_many: { filter: { v: { '$gte' => 2 } }, update: { '$inc' => { v: 1 } } } },
      { replace_one: { filter: { _id: 2 }, replacement: { v: 20 } } },
      { delete_one: { filter: { _id: 3 } } },
      { update_one: { filter: { _id: 4 }, update: { '$set' => { v: 40 } }, upsert: true } }
    ])
    counts = [result.inserted_count, result.matched_count, result.deleted_count, result.upserted_count]
    expect('ordered bulk', counts, [3, 5, 1, 1])
    error = failure('unordered bulk') do
      collection('bulk').bulk_write([
        { insert_one: { _id: 5 } },
        { insert_one: { _id: 1 } },
        { insert_one: { _id: 6 } },
        { delete_one: { filter: { _id: 4 } } }
      ], ordered: false)
    end
    failed = error.result['writeErrors'].map { |each| [each['index'], each['code']] }
    expect('unordered bulk', failed, [[1, 11_000]])
    expect('unordered counts', [error.result['n_inserted'], error.result['n_removed']], [2, 1])
    expect('bulk count', count('bulk'), 4)
  end

  def unacknowledged
    unacked = collection('unacked')
    blind = @client.with(write: { w: 0 })['unacked']
    blind.insert_one(_id: 1, v: 1)
    unacked.insert_one(_id: 2, v: 2)
    until_read('w:0 insert', 2) { count('unacked') }
    blind.update_one({ _id: 2 }, '$set' => { v: 20 })
    @db.command(ping: 1)
    until_read('w:0 update', { '_id' => 2, 'v' => 20 }) { unacked.find(_id: 2).first }
    blind.delete_one(_id: 1)
    @db.command(ping: 1)
    until_read('w:0 delete', 1) { count('unacked') }
  end

  def reads
    items = collection('items')
    expect('find in batches', items.find({}, sort: { _id: 1 }, batch_size: 50).map { |each| each['_id'] }, (0..249).to_a)
    some = items.find({ group: 3 }, sort: { n: -1 }, limit: 7, projection: { _id: 0, n: 1 })
    expect('find with limit', some.map { |each| each['n'] }, 248.step(218, -5).to_a)
    view = items.find({}, batch_size: 2)
    expect('find three', view.each.take(3).size, 3)
    view.close_query
    expect('count', count('items', group: 1), 50)
    estimated = items.respond_to?(:estimated_document_count) ? items.estimated_document_count : items.count
    expect('estimated count', estimated, 250)
    expect('distinct', items.distinct('group').to_a, [0, 1, 2, 3, 4])
  end

  def aggregates
    items = collection('items')
    sums = items.aggregate([{ '$group' => { _id: '$group', sum: { '$sum' => '$n' } } }, { '$sort' => { _id: 1 } }])
    expect('group', sums.to_a, Array.new(5) { |group| { '_id' => group, 'sum' => 6125 + 50 * group } })
    expect('aggregate in batches', items.aggregate([{ '$sort' => { _id: 1 } }], batch_size: 20).to_a.size, 250)
    collection('types').insert_one(types)
    back = collection('types').find(_id: 'types').first
    expect('types', JSON.generate(back.as_extended_json), JSON.generate(BSON::Document.new(types).as_extended_json))
  end

  def types
    {
      '_id' => 'types', 'double' => 1.5, 'nan' => Float::NAN, 'negativeZero' => -0.0, 'infinity' => Float::INFINITY,
      'string' => 'plain', 'emptyString' => '', 'unicode' => 'žluťoučký kůň 🐎', 'nul' => "a\0b",
      'nested' => { 'a' => { 'b' => { 'c' => 1 } } }, 'emptyDocument' => {}, 'array' => [1, 'two', [3.0], { 'four' => 4 }, []],
      'binary' => BSON::Binary.new("\x00\x01\x02\xFF".b),
      'uuid' => BSON::Binary.new(['00112233445566778899aabbccddeeff'].pack('H*'), :uuid),
      'objectId' => BSON::ObjectId.from_string('0123456789abcdef01234567'), 'true' => true, 'false' => false,
      'date' => Time.utc(2026, 1, 2, 3, 4, 5, 678_000), 'earlyDate' => Time.utc(1901, 2, 3, 4, 5, 6), 'null' => nil,
      'regex' => BSON::Regexp::Raw.new('^a.*b$', 'im'), 'code' => BSON::Code.new('function () {}'), 'int32' => 2_147_483_647,
      'int64' => 9_007_199_254_740_993, 'decimal128' => BSON::Decimal128.new('1.10'), 'timestamp' => BSON::Timestamp.new(1, 2),
      'minKey' => BSON::MinKey.new, 'maxKey' => BSON::MaxKey.new, '' => 'empty key'
    }
  end

  def changes
    items = collection('items')
    expect('update one', items.update_one({ _id: 1 }, '$set' => { touched: true }).modified_count, 1)
    expect('update many', items.update_many({ group: 2 }, '$inc' => { n: 1000 }).modified_count, 50)
    expect('upsert', items.replace_one({ _id: 'up' }, { name: 'upserted' }, upsert: true).upserted_id, 'up')
    expect('delete one', items.delete_one(_id: 'up').deleted_count, 1)
    expect('delete many', items.delete_many(group: 4).deleted_count, 50)
    after = items.find_one_and_update({ _id: 5 }, { '$set' => { name: 'after' } }, return_document: :after)
    expect('find and update', after['name'], 'after')
    expect('find and replace', items.find_one_and_replace({ _id: 6 }, { name: 'replaced' })['name'], 'item-6')
    expect('find and delete', items.find_one_and_delete(_id: 7)['name'], 'item-7')
  end

  def schema
    items = collection('items')
    keyed = collection('keyed')
    expect('create index', items.indexes.create_one(n: 1).ok?, true)
    expect('create unique index', keyed.indexes.create_one({ key: 1 }, unique: true).ok?, true)
    expect('list indexes', keyed.indexes.map { |index| index['name'] }.sort, %w[_id_ key_1])
    items.indexes.drop_one('n_1')
    expect('drop index', items.indexes.to_a.size, 1)
    collection('created').create
    expect('create collection', @db.list_collections.any? { |each| each['name'] == 'created' }, true)
    collection('created').drop
    expect('drop collection', @db.collection_names.include?('created'), false)
    expect('list databases', @client.database_names.include?(@db.name), true)
  end

  def failures
    error = failure('unknown command') { @db.command(mongotapNoSuchCommand: 1) }
    expect('unknown command', code(error), 59)
    error = failure('bad operator') { collection('items').find(n: { '$noSuchOperator' => 1 }).first }
    expect('bad operator', code(error), 2)
    error = failure('duplicate key') { collection('single').insert_one(_id: 1) }
    expect('duplicate key', code(error), 11_000)
    error = failure('bad modifier') { collection('single').update_one({ _id: 1 }, '$noSuchModifier' => { n: 1 }) }
    expect('bad modifier', code(error), 9)
  end

  def size_and_concurrency
    text = 'x' * 1_048_576
    collection('large').insert_one(_id: 1, text: text)
    expect('large document', collection('large').find(_id: 1).first['text'] == text, true)
    workers = Array.new(4) do |worker|
      Thread.new do
        5.times { |i| expect('parallel insert', collection('parallel').insert_one(_id: 10 * worker + i).n, 1) }
      end
    end
    workers.each(&:join)
    expect('parallel count', count('parallel'), 20)
  end

  def files
    content = Array.new(300_000) { |i| i * 31 % 251 }.pack('C*')
    bucket = @db.fs(chunk_size: 65_536)
    id = bucket.upload_from_stream('file', StringIO.new(content), chunk_size: 65_536)
    expect('chunks', count('fs.chunks'), 5)
    back = StringIO.new(String.new(encoding: Encoding::BINARY))
    bucket.download_to_stream(id, back)
    expect('download', back.string == content, true)
  end
end

# Cursor finalizers of version 2.5 take a lock, which Ruby 3 forbids there and would warn of each time.
$VERBOSE = nil
Mongo::Logger.logger.level = Logger::WARN
events = ENV['MONGOTAP_TEST_EVENTS'].to_s
client = Mongo::Client.new(
  ENV.fetch('MONGODB_URI'), database: ENV.fetch('MONGOTAP_TEST_DB'), app_name: 'mongotap-test-ruby', monitoring: !events.empty?
)
client.subscribe(Mongo::Monitoring::COMMAND, Recorder.new(events)) unless events.empty?
workload = Workload.new(client)
workload.run
client.close
puts "ok #{workload.operations}"
