<?php
// The workload of ../workload.md with PHP's mongodb extension alone, without its library.
//
// The extension has no GridFS and no threads: the parallel step runs one worker after another. It has no exhaust cursors over OP_MSG.

use MongoDB\BSON;
use MongoDB\Driver\{BulkWrite, Command, Cursor, Manager, Query, WriteConcern};
use MongoDB\Driver\Exception\{BulkWriteException, ServerException};
use MongoDB\Driver\Monitoring\{CommandFailedEvent, CommandStartedEvent, CommandSubscriber, CommandSucceededEvent};

/** Writes each command event to a file, as one JSON object a line. */
final class Recorder implements CommandSubscriber
{
    private $file;

    public function __construct(string $path)
    {
        $this->file = fopen($path, 'w');
    }

    private function write(string $name, object $event, array $more, string $field, object $document): void
    {
        $line = ['event' => $name, 'commandName' => $event->getCommandName(), 'requestId' => (int) $event->getRequestId()];
        if ($event->getServerConnectionId() !== null) {
            $line['serverConnectionId'] = $event->getServerConnectionId();
        }
        $head = json_encode($line + $more, JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES);
        $json = BSON\toCanonicalExtendedJSON(BSON\fromPHP($document));
        fwrite($this->file, substr($head, 0, -1) . ",\"$field\":$json}\n");
    }

    public function commandStarted(CommandStartedEvent $event): void
    {
        $more = ['databaseName' => $event->getDatabaseName()];
        $this->write('commandStartedEvent', $event, $more, 'command', $event->getCommand());
    }

    public function commandSucceeded(CommandSucceededEvent $event): void
    {
        $more = ['durationMicros' => $event->getDurationMicros()];
        $this->write('commandSucceededEvent', $event, $more, 'reply', $event->getReply());
    }

    public function commandFailed(CommandFailedEvent $event): void
    {
        $more = ['durationMicros' => $event->getDurationMicros()];
        $this->write('commandFailedEvent', $event, $more, 'failure', $event->getReply());
    }
}

/** The workload's steps; `run` gives the number of operations whose results were the wanted ones. */
final class Workload
{
    private int $operations = 0;

    public function __construct(private Manager $manager, private string $db)
    {
    }

    public function run(): int
    {
        foreach (['start', 'writes', 'unacknowledged', 'reads', 'aggregates', 'changes', 'schema', 'failures', 'size'] as $step) {
            $this->$step();
        }
        return $this->operations;
    }

    /** Counts an operation whose result is the wanted one; throws where it is not. */
    private function expect(string $what, mixed $got, mixed $wanted): void
    {
        if ($got !== $wanted) {
            $text = fn ($value) => substr(var_export($value, true), 0, 500);
            throw new Exception("$what: got {$text($got)}, wanted {$text($wanted)}");
        }
        $this->operations++;
    }

    private function command(array $command, ?string $db = null): Cursor
    {
        return $this->manager->executeCommand($db ?? $this->db, new Command($command));
    }

    private function reply(array $command, ?string $db = null): object
    {
        return $this->command($command, $db)->toArray()[0];
    }

    private function find(string $collection, array $filter, array $options = []): Cursor
    {
        return $this->manager->executeQuery("$this->db.$collection", new Query($filter, $options));
    }

    private function bulk(string $collection, BulkWrite $bulk, array $options = []): MongoDB\Driver\WriteResult
    {
        return $this->manager->executeBulkWrite("$this->db.$collection", $bulk, $options);
    }

    /** A bulk write of one statement: `insert`, `update` or `delete` with its arguments. */
    private function write(string $collection, array $options, string $kind, mixed ...$arguments): MongoDB\Driver\WriteResult
    {
        $bulk = new BulkWrite();
        $bulk->$kind(...$arguments);
        return $this->bulk($collection, $bulk, $options);
    }

    private function count(string $collection, array $filter = []): int
    {
        $pipeline = [['$match' => (object) $filter], ['$group' => ['_id' => 1, 'n' => ['$sum' => 1]]]];
        $found = $this->command(['aggregate' => $collection, 'pipeline' => $pipeline, 'cursor' => new stdClass()])->toArray();
        return $found[0]->n ?? 0;
    }

    /** Reads until an unacknowledged write has taken effect. */
    private function until(string $what, array $filter, int $wanted): void
    {
        $end = microtime(true) + 5;
        while (($got = $this->count('unacked', $filter)) !== $wanted && microtime(true) < $end) {
            usleep(20_000);
        }
        $this->expect($what, $got, $wanted);
    }

    /** Runs an operation that fails, and gives the code of the server's error or of its only write error. */
    private function code(callable $operation): int
    {
        try {
            $operation();
        } catch (BulkWriteException $error) {
            $errors = $error->getWriteResult()->getWriteErrors();
            return count($errors) === 1 ? reset($errors)->getCode() : 0;
        } catch (ServerException $error) {
            return $error->getCode();
        }
        return 0;
    }

    private function start(): void
    {
        $this->expect('ping', $this->reply(['ping' => 1], 'admin')->ok, 1.0);
        $this->expect('drop database', $this->reply(['dropDatabase' => 1])->ok, 1.0);
    }

    private function writes(): void
    {
        $this->expect('insert one', $this->write('single', [], 'insert', ['_id' => 1, 'text' => 'one'])->getInsertedCount(), 1);
        $many = new BulkWrite();
        for ($i = 0; $i < 250; $i++) {
            $many->insert(['_id' => $i, 'n' => $i, 'group' => $i % 5, 'name' => "item-$i"]);
        }
        $this->expect('insert many', $this->bulk('items', $many)->getInsertedCount(), 250);

        $ordered = new BulkWrite();
        for ($i = 1; $i <= 3; $i++) {
            $ordered->insert(['_id' => $i, 'v' => $i]);
        }
        $ordered->update(['_id' => 1], ['$set' => ['v' => 10]]);
        $ordered->update(['v' => ['$gte' => 2]], ['$inc' => ['v' => 1]], ['multi' => true]);
        $ordered->update(['_id' => 2], ['v' => 20]);
        $ordered->delete(['_id' => 3], ['limit' => 1]);
        $ordered->update(['_id' => 4], ['$set' => ['v' => 40]], ['upsert' => true]);
        $result = $this->bulk('bulk', $ordered);
        $counts = [$result->getInsertedCount(), $result->getMatchedCount(), $result->getDeletedCount(), $result->getUpsertedCount()];
        $this->expect('ordered bulk', $counts, [3, 5, 1, 1]);

        $unordered = new BulkWrite(['ordered' => false]);
        foreach ([5, 1, 6] as $id) {
            $unordered->insert(['_id' => $id]);
        }
        $unordered->delete(['_id' => 4], ['limit' => 1]);
        try {
            $this->bulk('bulk', $unordered);
            throw new Exception('unordered bulk: did not fail');
        } catch (BulkWriteException $error) {
            $result = $error->getWriteResult();
            $failed = array_map(fn ($each) => [$each->getIndex(), $each->getCode()], array_values($result->getWriteErrors()));
            $this->expect('unordered bulk', $failed, [[1, 11000]]);
            $this->expect('unordered counts', [$result->getInsertedCount(), $result->getDeletedCount()], [2, 1]);
        }
        $this->expect('bulk count', $this->count('bulk'), 4);
    }

    private function unacknowledged(): void
    {
        $blind = ['writeConcern' => new WriteConcern(0)];
        $this->expect('w:0 insert', $this->write('unacked', $blind, 'insert', ['_id' => 1, 'v' => 1])->isAcknowledged(), false);
        $this->write('unacked', [], 'insert', ['_id' => 2, 'v' => 2]);
        $this->until('w:0 insert read', [], 2);
        $result = $this->write('unacked', $blind, 'update', ['_id' => 2], ['$set' => ['v' => 20]]);
        $this->expect('w:0 update', $result->isAcknowledged(), false);
        $this->reply(['ping' => 1]);
        $this->until('w:0 update read', ['_id' => 2, 'v' => 20], 1);
        $result = $this->write('unacked', $blind, 'delete', ['_id' => 1], ['limit' => 1]);
        $this->expect('w:0 delete', $result->isAcknowledged(), false);
        $this->reply(['ping' => 1]);
        $this->until('w:0 delete read', [], 1);
    }

    private function reads(): void
    {
        $all = $this->find('items', [], ['sort' => ['_id' => 1], 'batchSize' => 50])->toArray();
        $this->expect('find in batches', array_column($all, '_id'), range(0, 249));
        $options = ['sort' => ['n' => -1], 'limit' => 7, 'projection' => ['_id' => 0, 'n' => 1]];
        $some = $this->find('items', ['group' => 3], $options)->toArray();
        $this->expect('find with limit', array_column($some, 'n'), range(248, 218, -5));
        $cursor = $this->find('items', [], ['batchSize' => 2]);
        $read = 0;
        foreach ($cursor as $document) {
            if (++$read === 3) {
                break;
            }
        }
        unset($cursor); // closes it
        $this->expect('find three', $read, 3);
        $this->expect('count', $this->count('items', ['group' => 1]), 50);
        $this->expect('estimated count', $this->reply(['count' => 'items'])->n, 250);
        $this->expect('distinct', $this->reply(['distinct' => 'items', 'key' => 'group'])->values, [0, 1, 2, 3, 4]);
    }

    private function aggregates(): void
    {
        $sums = [['$group' => ['_id' => '$group', 'sum' => ['$sum' => '$n']]], ['$sort' => ['_id' => 1]]];
        $found = $this->command(['aggregate' => 'items', 'pipeline' => $sums, 'cursor' => new stdClass()])->toArray();
        $this->expect('group', array_column($found, 'sum'), [6125, 6175, 6225, 6275, 6325]);
        $sorted = ['aggregate' => 'items', 'pipeline' => [['$sort' => ['_id' => 1]]], 'cursor' => ['batchSize' => 20]];
        $this->expect('aggregate in batches', count($this->command($sorted)->toArray()), 250);

        $types = [
            '_id' => 'types', 'double' => 1.5, 'nan' => NAN, 'negativeZero' => -0.0, 'infinity' => INF,
            'string' => 'plain', 'emptyString' => '', 'unicode' => 'žluťoučký kůň 🐎', 'nul' => "a\0b",
            'nested' => ['a' => ['b' => ['c' => 1]]], 'emptyDocument' => new stdClass(), 'array' => [1, 'two', [3.0], ['four' => 4], []],
            'binary' => new BSON\Binary("\x00\x01\x02\xff", 0),
            'uuid' => new BSON\Binary(hex2bin('00112233445566778899aabbccddeeff'), BSON\Binary::TYPE_UUID),
            'objectId' => new BSON\ObjectId('0123456789abcdef01234567'), 'true' => true, 'false' => false,
            'date' => new BSON\UTCDateTime(1767323045678), 'earlyDate' => new BSON\UTCDateTime(-2174586894000), 'null' => null,
            'regex' => new BSON\Regex('^a.*b$', 'im'), 'code' => new BSON\Javascript('function () {}'), 'int32' => 2147483647,
            'int64' => 9007199254740993, 'decimal128' => new BSON\Decimal128('1.10'), 'timestamp' => new BSON\Timestamp(2, 1),
            'minKey' => new BSON\MinKey(), 'maxKey' => new BSON\MaxKey(), '' => 'empty key',
        ];
        // A BulkWrite would refuse the empty key; the command takes it.
        $this->expect('types written', $this->reply(['insert' => 'types', 'documents' => [$types]])->n, 1);
        $canonical = fn ($document) => BSON\toCanonicalExtendedJSON(BSON\fromPHP($document));
        $back = $this->find('types', ['_id' => 'types'], ['limit' => 1])->toArray()[0];
        $this->expect('types', $canonical($back), $canonical($types));
    }

    private function changes(): void
    {
        $result = $this->write('items', [], 'update', ['_id' => 1], ['$set' => ['touched' => true]]);
        $this->expect('update one', $result->getModifiedCount(), 1);
        $result = $this->write('items', [], 'update', ['group' => 2], ['$inc' => ['n' => 1000]], ['multi' => true]);
        $this->expect('update many', $result->getModifiedCount(), 50);
        $result = $this->write('items', [], 'update', ['_id' => 'up'], ['name' => 'upserted'], ['upsert' => true]);
        $this->expect('upsert', $result->getUpsertedIds(), ['up']);
        $this->expect('delete one', $this->write('items', [], 'delete', ['_id' => 'up'], ['limit' => 1])->getDeletedCount(), 1);
        $this->expect('delete many', $this->write('items', [], 'delete', ['group' => 4])->getDeletedCount(), 50);
        $modify = fn (int $id, array $how) => $this->reply(['findAndModify' => 'items', 'query' => ['_id' => $id]] + $how)->value->name;
        $this->expect('find and update', $modify(5, ['update' => ['$set' => ['name' => 'after']], 'new' => true]), 'after');
        $this->expect('find and replace', $modify(6, ['update' => ['name' => 'replaced']]), 'item-6');
        $this->expect('find and delete', $modify(7, ['remove' => true]), 'item-7');
    }

    private function schema(): void
    {
        $index = fn (string $field, array $more) => [['key' => [$field => 1], 'name' => "{$field}_1"] + $more];
        $this->reply(['createIndexes' => 'items', 'indexes' => $index('n', [])]);
        $this->reply(['createIndexes' => 'keyed', 'indexes' => $index('key', ['unique' => true])]);
        $names = array_column($this->command(['listIndexes' => 'keyed'])->toArray(), 'name');
        $this->expect('list indexes', $names, ['_id_', 'key_1']);
        $this->reply(['dropIndexes' => 'items', 'index' => 'n_1']);
        $this->expect('drop index', count($this->command(['listIndexes' => 'items'])->toArray()), 1);
        $has = fn () => in_array('created', array_column($this->command(['listCollections' => 1])->toArray(), 'name'), true);
        $this->reply(['create' => 'created']);
        $this->expect('create collection', $has(), true);
        $this->reply(['drop' => 'created']);
        $this->expect('drop collection', $has(), false);
        $databases = array_column($this->reply(['listDatabases' => 1], 'admin')->databases, 'name');
        $this->expect('list databases', in_array($this->db, $databases, true), true);
    }

    private function failures(): void
    {
        $this->expect('unknown command', $this->code(fn () => $this->reply(['mongotapNoSuchCommand' => 1])), 59);
        $this->expect('bad operator', $this->code(fn () => $this->find('items', ['n' => ['$noSuchOperator' => 1]])), 2);
        $this->expect('duplicate key', $this->code(fn () => $this->write('single', [], 'insert', ['_id' => 1])), 11000);
        $update = ['$noSuchModifier' => ['n' => 1]];
        $this->expect('bad modifier', $this->code(fn () => $this->write('single', [], 'update', ['_id' => 1], $update)), 9);
    }

    private function size(): void
    {
        $text = str_repeat('x', 1_048_576);
        $this->write('large', [], 'insert', ['_id' => 1, 'text' => $text]);
        $this->expect('large document', $this->find('large', ['_id' => 1])->toArray()[0]->text, $text);
        for ($i = 0; $i < 20; $i++) {
            $document = ['_id' => 10 * intdiv($i, 5) + $i % 5];
            $this->expect('parallel insert', $this->write('parallel', [], 'insert', $document)->getInsertedCount(), 1);
        }
        $this->expect('parallel count', $this->count('parallel'), 20);
    }
}

$manager = new Manager(getenv('MONGODB_URI'), ['appname' => 'mongotap-test-php']);
if (getenv('MONGOTAP_TEST_EVENTS')) {
    $manager->addSubscriber(new Recorder(getenv('MONGOTAP_TEST_EVENTS')));
}
try {
    $operations = (new Workload($manager, getenv('MONGOTAP_TEST_DB')))->run();
} catch (Throwable $error) {
    fwrite(STDERR, "$error\n");
    exit(1);
}
unset($manager);
echo "ok $operations\n";
